"""What does a night cost? Asked when a room is booked, on the day of the booking."""

import icekeel as ik


class Booking(ik.Request):
    """What is known when a room is booked."""

    booking_id: ik.Id
    hotel: ik.Cat
    room: ik.Cat
    meal: ik.Cat
    segment: ik.Cat
    channel: ik.Cat
    customer_type: ik.Cat
    agent: ik.Cat
    company: ik.Cat
    country: ik.Cat
    arrival_month: ik.Cat
    arrival_day: ik.Cat
    arrives_at: ik.Time
    lead_days: ik.Num = ik.at_least(0)
    adults: ik.Num = ik.at_least(0)
    children: ik.Num = ik.at_least(0)
    weekend_nights: ik.Num = ik.at_least(0)
    week_nights: ik.Num = ik.at_least(0)


class Bookings(ik.Events, time="booked_at", id="booking_id", source="bookings.parquet"):
    """A booking with its price a night; those of the same day are not known to each other."""

    booking_id: ik.Id
    hotel: ik.Cat
    room: ik.Cat
    agent: ik.Cat
    company: ik.Cat
    segment: ik.Cat
    arrival_month: ik.Cat
    arrival_day: ik.Cat
    price: ik.Num = ik.between(1, 1_000)


room = Bookings.where(hotel=Booking.hotel, room=Booking.room)
month = Bookings.where(hotel=Booking.hotel, room=Booking.room, arrival_month=Booking.arrival_month)
day = Bookings.where(hotel=Booking.hotel, arrival_day=Booking.arrival_day)
same = Bookings.where(hotel=Booking.hotel, room=Booking.room, arrival_day=Booking.arrival_day)
agent = Bookings.where(hotel=Booking.hotel, agent=Booking.agent)
company = Bookings.where(hotel=Booking.hotel, company=Booking.company)


class Raw(ik.Features):
    """The columns that a notebook starts with."""

    hotel = Booking.hotel
    room = Booking.room
    meal = Booking.meal
    segment = Booking.segment
    channel = Booking.channel
    customer_type = Booking.customer_type
    lead_days = Booking.lead_days
    adults = Booking.adults
    children = Booking.children
    weekend_nights = Booking.weekend_nights
    week_nights = Booking.week_nights


class Ids(Raw):
    """And who books, from where, for which season."""

    agent = Booking.agent
    company = Booking.company
    country = Booking.country
    month_sin, month_cos = ik.cyclic(Booking.arrives_at, "month", tz="Europe/Lisbon")
    weekday = ik.part(Booking.arrives_at, "weekday", tz="Europe/Lisbon")


class History(Ids):
    """And what others paid: for such a room lately and in such a month, for that very day, through that agent."""

    room_30d = room.last("30d").price.mean()
    room_7d = room.last("7d").price.mean()
    room_trend = room_7d - room_30d
    month_365d = month.last("365d").price.mean()
    month_60d = month.last("60d").price.mean()
    day_365d = day.last("365d").price.mean()
    day_count = day.last("365d").count()
    same_day = same.last("365d").price.mean()
    same_day_last = same.last("365d").price.mean_of_last(5)
    agent_90d = agent.last("90d").price.mean()
    agent_last = agent.last("365d").price.mean_of_last(5)
    company_365d = company.last("365d").price.mean()
    # interaction: what this agent pays against what such rooms cost, for this day
    agent_discount = agent_90d / room_30d
    agent_for_the_day = agent_discount * same_day


booked = Bookings.where(booking_id=Booking.booking_id).within("1d")

price = ik.Model(
    "price",
    Booking,
    History,
    baseline=Raw,
    about="Says what a night costs when a room is booked.",
    unit="€",
    history=ik.table_of(Booking, "requests.parquet", asked_at="booked_at"),
    target=booked.price.latest(absent=ik.UNKNOWN),
    error="mape",
    choose=ik.Simplest(within=ik.usd_per_year(2_000, error_point=10_000)),
)
