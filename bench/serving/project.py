"""What does it cost to fulfil this order? A shop whose every order is asked about before it is taken."""

import icekeel as ik


class Order(ik.Request):
    """An order as the shop's till sends it."""

    order_id: ik.Id
    customer: ik.Id
    product: ik.Id
    store: ik.Id
    channel: ik.Cat
    carrier: ik.Cat
    service: ik.Cat
    packaging: ik.Cat
    material: ik.Cat
    finish: ik.Cat
    colour: ik.Cat
    size: ik.Cat
    origin: ik.Cat
    region: ik.Cat
    payment: ik.Cat
    priority: ik.Cat
    quantity: ik.Num = ik.at_least(1)
    weight: ik.Num = ik.at_least(0)
    price: ik.Num = ik.at_least(0)
    distance: ik.Num = ik.at_least(0)


class Sales(ik.Events, time="sold_at", id="sale", source="sales.parquet"):
    """What was sold to whom, where."""

    sale: ik.Id
    customer: ik.Id
    product: ik.Id
    store: ik.Id
    amount: ik.Num
    margin: ik.Num


class Costs(ik.Events, time="booked_at", id="order_id", source="costs.parquet"):
    """What an order had cost in the end."""

    order_id: ik.Id
    cost: ik.Num = ik.at_least(0)


customer = Sales.where(customer=Order.customer)
product = Sales.where(product=Order.product)
store = Sales.where(store=Order.store)


class Thirty(ik.Features):
    """12 categories, 4 numbers, 2 made of them, and 12 windows over three keys."""

    channel = Order.channel
    carrier = Order.carrier
    service = Order.service
    packaging = Order.packaging
    material = Order.material
    finish = Order.finish
    colour = Order.colour
    size = Order.size
    origin = Order.origin
    region = Order.region
    payment = Order.payment
    priority = Order.priority
    quantity = Order.quantity
    weight = Order.weight
    price = Order.price
    distance = Order.distance
    ln_load = ik.ln(Order.quantity * Order.weight + 1)
    price_per_weight = Order.price / (Order.weight + 1)
    customer_count_1d = customer.last("1d").count()
    customer_sum_30d = customer.last("30d").amount.sum()
    customer_mean_30d = customer.last("30d").margin.mean()
    customer_max_7d = customer.last("7d").amount.max()
    product_count_7d = product.last("7d").count()
    product_mean_30d = product.last("30d").amount.mean()
    product_min_7d = product.last("7d").margin.min()
    product_sum_1d = product.last("1d").amount.sum()
    store_count_1d = store.last("1d").count()
    store_mean_1d = store.last("1d").amount.mean()
    store_sum_30d = store.last("30d").amount.sum()
    store_max_7d = store.last("7d").margin.max()


cost = ik.Model(
    "cost",
    Order,
    Thirty,
    history=ik.table_of(Order, "orders.parquet", asked_at="asked_at"),
    target=Costs.where(order_id=Order.order_id).within("1d").cost.latest(absent=ik.UNKNOWN),
    error="mape",
    choose=ik.Simplest(within=ik.usd_per_year(1_000, error_point=10_000)),
    influences=True,
    guard=ik.Guard(budget=0.01, otherwise=ik.mark()),
    rollout=ik.Rollout(unit=Order.customer, share=0.5, minimum_days=30),
)
