"""What is defined in these measurements: a shop's sales, and features of a request about them."""

from __future__ import annotations

import icekeel as ik
from icekeel.features.plan import Plan, make_plan


class Ask(ik.Request):
    """Whom a question is about."""

    customer: ik.Id
    product: ik.Id
    region: ik.Cat


class Sales(ik.Events, time="sold_at", id="sale"):
    """What was sold: `bench.features.data` makes it."""

    sale: ik.Id
    customer: ik.Id
    product: ik.Id
    region: ik.Cat
    amount: ik.Num = ik.optional()
    margin: ik.Num = ik.optional()


customer = Sales.where(customer=Ask.customer)
product = Sales.where(product=Ask.product)
region = Sales.where(region=Ask.region)


class Windows(ik.Features):
    """12 windows over 3 keys: an hour, a day and 30 days of each; sum, count, mean, min, max."""

    customer_count_1h = customer.last("1h").count()
    customer_sum_1d = customer.last("1d").amount.sum()
    customer_mean_30d = customer.last("30d").amount.mean()
    customer_max_30d = customer.last("30d").amount.max()
    product_sum_1h = product.last("1h").amount.sum()
    product_min_1d = product.last("1d").margin.min()
    product_count_30d = product.last("30d").count()
    product_mean_30d = product.last("30d").margin.mean()
    region_max_1h = region.last("1h").amount.max()
    region_mean_1d = region.last("1d").margin.mean()
    region_sum_30d = region.last("30d").amount.sum()
    region_min_30d = region.last("30d").margin.min()


pair = Sales.where(customer=Ask.customer, product=Ask.product)
place = Sales.where(customer=Ask.customer, region=Ask.region)


class FiveViews(ik.Features):
    """12 windows over five views: by customer, product, region, and the customer with each of the two."""

    customer_count_1h = customer.last("1h").count()
    customer_sum_1d = customer.last("1d").amount.sum()
    customer_mean_30d = customer.last("30d").amount.mean()
    customer_max_30d = customer.last("30d").amount.max()
    product_sum_1h = product.last("1h").amount.sum()
    product_count_30d = product.last("30d").count()
    region_mean_1d = region.last("1d").margin.mean()
    region_min_30d = region.last("30d").margin.min()
    pair_count_30d = pair.last("30d").count()
    pair_sum_30d = pair.last("30d").amount.sum()
    place_count_1d = place.last("1d").count()
    place_mean_30d = place.last("30d").margin.mean()


class Job(ik.Request):
    """What a print shop is asked to make."""

    product: ik.Cat
    substrate: ik.Cat
    colors: ik.Num
    sides: ik.Num
    quantity: ik.Num
    width: ik.Num
    height: ik.Num
    material_cost: ik.Num
    rush: ik.Flag
    discount: ik.Num = ik.optional()
    note: ik.Text
    due: ik.Time


DIFFICULTY = {"uncoated": 1.0, "coated": 1.2, "recycled": 1.3, "kraft": 1.6, "film": 2.1, "foil": 2.8}
CHICAGO = "America/Chicago"
difficulty = ik.table(Job.substrate, DIFFICULTY, default=1)
area = Job.width * Job.height


class RowLevel(ik.Features):
    """20 features of the request alone: arithmetic, tables, cases, texts, times, cycles."""

    complexity = Job.colors * Job.sides * difficulty
    area_total = area * Job.quantity
    ink = area * Job.colors * Job.sides
    ln_quantity = ik.ln(Job.quantity)
    ln_cost = ik.ln(Job.material_cost + 1)
    cost_each = Job.material_cost / Job.quantity
    cost_per_area = Job.material_cost / area
    aspect = Job.width / Job.height
    setup_share = 50 / (50 + Job.quantity)
    scale = ik.sqrt(Job.quantity) * difficulty
    large = ik.when(Job.quantity > 10_000, 1, 0)
    speed = ik.when(Job.rush, 1.5, 1.0) * difficulty
    tier = ik.case((Job.quantity < 100, 3), (Job.quantity < 1000, 2), otherwise=1)
    discounted = Job.material_cost * (1 - Job.discount.fill(0))
    rounded = Job.material_cost.round()
    words = Job.note.words()
    days_left = ik.days_between(ik.asked_at, Job.due)
    urgency = ik.exp(-ik.days_between(ik.asked_at, Job.due) / 7)
    month_sin, month_cos = ik.cyclic(ik.asked_at, "month", tz=CHICAGO)


class AskWide(ik.Request):
    """Whom a question about the newest values is about."""

    customer: ik.Id


class Wide(ik.Events, time="sold_at", id="sale"):
    """Sales with ten value columns."""

    sale: ik.Id
    customer: ik.Id
    v0: ik.Num
    v1: ik.Num
    v2: ik.Num
    v3: ik.Num
    v4: ik.Num
    v5: ik.Num
    v6: ik.Num
    v7: ik.Num
    v8: ik.Num
    v9: ik.Num


ever = Wide.where(customer=AskWide.customer).last("3650d")


class Newest(ik.Features):
    """The newest of ten values."""

    v0 = ever.v0.last()
    v1 = ever.v1.last()
    v2 = ever.v2.last()
    v3 = ever.v3.last()
    v4 = ever.v4.last()
    v5 = ever.v5.last()
    v6 = ever.v6.last()
    v7 = ever.v7.last()
    v8 = ever.v8.last()
    v9 = ever.v9.last()


def plan_of(request: type[ik.Request], features: type[ik.Features]) -> Plan:
    """What computes a feature set for a request."""
    return make_plan(tuple(request.icekeel_fields.values()), features.icekeel_features)
