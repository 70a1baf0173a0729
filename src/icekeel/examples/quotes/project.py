"""What should this print job cost? Asked when a customer wants a quote.

A simulated print shop: customers, jobs, orders, and the hours of work that wait in the plant.
"""

import icekeel as ik

CHICAGO = "America/Chicago"
DIFFICULTY = {"uncoated": 1.0, "coated": 1.2, "recycled": 1.3, "kraft": 1.6, "film": 2.1, "foil": 2.8}


class Quote(ik.Request):
    """What sales fills in."""

    quote_id: ik.Id
    customer: ik.Id = ik.private()
    product: ik.Cat
    substrate: ik.Cat
    colors: ik.Num = ik.between(1, 12)
    sides: ik.Num = ik.between(1, 2)
    die_cut: ik.Cat
    ink: ik.Cat
    turnaround: ik.Cat
    quantity: ik.Num = ik.at_least(1)
    material_cost: ik.Num = ik.at_least(0)


class Results(ik.Events, time="decided_at", id="quote_id", source="results.parquet"):
    """The customer's decision, and the price that an estimator had set."""

    quote_id: ik.Id
    price: ik.Num = ik.at_least(1)
    won: ik.Flag
    revenue: ik.Num = ik.at_least(0)


class Orders(ik.Events, time="ordered_at", available="booked_at", id="order_id", source="orders.parquet"):
    """A quote that was won; accounting books it some days later, and only then is it known."""

    order_id: ik.Id
    customer: ik.Id = ik.private()
    revenue: ik.Num = ik.at_least(0)
    margin: ik.Num = ik.at_most(1)


class Capacity(ik.Events, time="measured_at", id="reading_id", source="capacity.parquet"):
    """Hours of work that wait in a plant, measured every six hours."""

    reading_id: ik.Id
    plant: ik.Cat
    backlog_hours: ik.Num = ik.at_least(0)


mine = Orders.where(customer=Quote.customer).last("365d")
plant = Capacity.where(plant="P1")


class Raw(ik.Features):
    """The columns of the request, as a notebook starts with them."""

    product = Quote.product
    substrate = Quote.substrate
    colors = Quote.colors
    sides = Quote.sides
    die_cut = Quote.die_cut
    ink = Quote.ink
    turnaround = Quote.turnaround
    quantity = Quote.quantity
    material_cost = Quote.material_cost


class Engineered(Raw):
    """What estimators, sales and the plant know besides."""

    # domain: how hard the job is to print
    complexity = Quote.colors * Quote.sides * ik.table(Quote.substrate, DIFFICULTY, default=1)
    # customer value: a year's revenue, more with a good margin
    customer_value = mine.revenue.sum() * (1 + mine.margin.mean(empty=0))
    order_trend = mine.revenue.mean_of_last(3) - mine.revenue.mean_of_last(6)
    # interaction: who orders often, and lately
    recency_frequency = mine.count() * ik.exp(-mine.days_since(empty=365) / 365)
    # capacity pressure: what waits now, and against what usually waits
    backlog = plant.last("2d").backlog_hours.last()
    pressure = backlog / plant.last("30d").backlog_hours.mean()
    # cyclical: December lies next to January
    season_sin, season_cos = ik.cyclic(ik.asked_at, "month", tz=CHICAGO)


result = Results.where(quote_id=Quote.quote_id).within("30d")

price = ik.Model(
    "price",
    Quote,
    Engineered,
    about="Prices a print job when a customer asks for a quote, as an estimator would.",
    unit="$",
    baseline=Raw,
    history=ik.table_of(Quote, "quotes.parquet", asked_at="sent_at"),
    target=result.price.latest(absent=ik.UNKNOWN),
    error="mape",
    choose=ik.Simplest(within=ik.usd_per_year(5_000, error_point=40_000)),
    influences=True,  # a price decides whether the quote is won
    after=[ik.floor(Quote.material_cost), ik.round_to(5)],
    guard=ik.Guard(
        budget=0.01,
        otherwise=ik.similar_cases(),  # an odd job is priced like the jobs most like it, if there are any
        # what was never made, or never in such a number, is an estimator's, and so is whatever is dear
        kinds={kind: ik.refuse() for kind in ("unseen_pair", "unseen_triple", "out_of_range")},
        above=(5_000, ik.refuse()),
        stake=Quote.material_cost * 5,  # about what a job is sold for
        review="30d",
    ),
)


def test_an_order_not_yet_booked_is_unknown() -> None:
    order = Orders("1", "a", 100, 0.3, ordered_at="2025-03-01", booked_at="2025-03-03")
    world = ik.given(order)
    assert world.at("2025-03-02")[Engineered.customer_value](customer="a") == 0
    assert world.at("2025-03-04")[Engineered.customer_value](customer="a") == 130


def test_a_harder_substrate_makes_a_job_more_complex() -> None:
    complexity = ik.given().at("2025-03-01")[Engineered.complexity]
    assert complexity(colors=4, sides=2, substrate="foil") == 4 * 2 * 2.8
    assert complexity(colors=4, sides=2, substrate="a new one") == 8
