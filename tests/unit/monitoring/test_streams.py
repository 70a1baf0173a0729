from __future__ import annotations

import numpy as np
import pytest

from icekeel.core.frames import Array, Column, Frame, Kind
from icekeel.core.time import DAY, MINUTE
from icekeel.monitoring import (
    Bank,
    Now,
    Seen,
    Series,
    Stream,
    cells_of,
    learn,
    log_bar,
)
from icekeel.monitoring.baseline import Baseline, Monitored
from icekeel.monitoring.facts import signal, unit_of

START = 19_005 * DAY  # a Thursday
BAR = log_bar(50, 2)
NUM, CAT = Column("x", Kind.NUM), Column("c", Kind.CAT)


def texts(values: list[str]) -> Array:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def stream_of(column: Column, values: Array) -> Stream:
    made = cells_of("field", column, values)
    assert made is not None
    return Stream("requests", (made,))


def level(series: list[Series], change: str = "level", label: str = "") -> Series:
    return next(one for one in series if one.change == change and one.label == label)


def alarms(stream: Stream, series: list[Series], frames: list[Frame]) -> list[str]:
    """The series that alarm when each frame is a minute."""
    baseline = Baseline((Monitored(stream, tuple(series)),))
    bank, found = Bank(series, BAR), set()
    seen = Seen.start(series, learnt=True)
    for look, frame in enumerate(frames):
        rows = baseline.sums({"requests": stream.count(frame).counts}, 1.0)
        seen = bank.look(seen, START + 400 * DAY + look * MINUTE, *rows)
        found |= {series[place].change for place in np.flatnonzero(bank.alarms(seen))}
    return sorted(found)


def test_minutes_add_up_and_every_value_has_a_cell() -> None:
    rng = np.random.default_rng(0)
    values = rng.lognormal(size=1000)
    stream = stream_of(NUM, values)
    parts = [stream.count(Frame({"field.x": part})) for part in np.split(values, 10)]
    whole = stream.count(Frame({"field.x": values}))
    assert np.sum([part.counts for part in parts], axis=0).tolist() == whole.counts.tolist()
    assert np.sum([part.values for part in parts], axis=0) == pytest.approx(whole.values)
    assert stream.count(Frame({"field.x": np.array([np.nan, -1e9, 1e9, np.inf])})).counts[
        [0, 1, -1]
    ].tolist() == [1, 1, 2]
    assert stream.count(Frame({"field.y": np.zeros(3)})).counts[0] == 3  # a column that is gone is all null


def test_a_reference_of_one_value_finds_any_other() -> None:
    at = START + np.arange(2000) * 10 * MINUTE
    frame = Frame({"field.x": np.full(2000, 7.0)})
    stream = stream_of(NUM, frame["field.x"])
    series = learn(stream, frame, at, BAR)
    assert all(not one.blind for one in series)
    assert alarms(stream, series, [Frame({"field.x": np.full(20, 7.0)})] * 600) == []
    assert "level" in alarms(stream, series, [Frame({"field.x": np.full(20, 7.001)})] * 3)


def test_a_million_categories_are_eight_and_the_others() -> None:
    rng = np.random.default_rng(1)
    values = texts([f"v{number}" for number in (rng.zipf(1.3, 20_000) % 1_000_000).tolist()])
    stream = stream_of(CAT, values)
    series = learn(stream, Frame({"field.c": values}), START + np.arange(20_000) * MINUTE, BAR)
    assert len(series) <= 10
    counted = stream.count(Frame({"field.c": texts([f"n{number}" for number in range(300)])}))
    assert counted.counts[-1] == 300
    assert len(counted.unseen["field.c"]) == 5


def test_three_rows_and_none_are_learnt_from() -> None:
    frame = Frame({"field.x": np.array([1.0, 2.0, 3.0])})
    stream = stream_of(NUM, frame["field.x"])
    assert len(learn(stream, frame, START + np.arange(3) * DAY, BAR)) == 3
    none = Frame({"field.x": np.array([])})
    assert len(learn(stream, none, np.array([], dtype=np.int64), BAR)) == 3
    assert cells_of("field", NUM, np.array([np.nan])) is None
    assert cells_of("field", Column("t", Kind.TIME), np.array([1])) is None


def test_what_days_differ_by_is_harmless_and_more_is_not() -> None:
    """Each day has its own level, a third of the spread of rows: rows tested one by one would alarm daily."""
    rng = np.random.default_rng(2)

    def days(count: int, shift: float = 0.0) -> list[Frame]:
        shocks = np.repeat(rng.normal(0, 0.3, count), 48)
        return [Frame({"field.x": rng.normal(size=20) + shock + shift}) for shock in shocks]

    past = days(60)
    frame = Frame.stack(past)
    at = START + np.repeat(np.arange(60 * 48) * 30 * MINUTE, 20)
    stream = stream_of(NUM, frame["field.x"])
    series = learn(stream, frame, at, BAR)
    assert level(series).tolerance == pytest.approx(3 * 0.3 * 0.28 + 0.01, abs=0.1)
    assert alarms(stream, series, days(20)) == []
    assert "level" in alarms(stream, series, days(1, 2.0))


def test_a_series_whose_every_value_is_ordinary_is_blind() -> None:
    rng = np.random.default_rng(3)
    frame = Frame({"field.x": np.repeat(rng.normal(size=60), 100)})
    stream = stream_of(NUM, frame["field.x"])
    series = learn(
        stream, frame, START + np.repeat(np.arange(60) * DAY, 100) + np.tile(np.arange(100) * MINUTE, 60), BAR
    )
    assert level(series).blind
    assert not level(series, "range").blind


def test_hours_that_differ_are_learnt_and_hours_that_do_not_are_none() -> None:
    rng = np.random.default_rng(4)
    at = START + np.arange(8 * 7 * 24 * 10) * 6 * MINUTE
    flat = rng.normal(size=len(at))
    daily = flat + np.sin(2 * np.pi * at / DAY)
    for values, some in ((flat, False), (daily, True)):
        stream = stream_of(NUM, values)
        one = level(learn(stream, Frame({"field.x": values}), at, BAR))
        assert bool(np.ptp(one.hours or (0.0,)) > 0.3) is some
        assert one.tolerance < 0.09


@pytest.mark.parametrize(
    ("ratio", "text"), [(60.2, "60 times"), (1 / 1000, "1/1000"), (2.5, "2.54 times"), (1.2, ""), (0.0, "")]
)
def test_units_are_known_by_their_quotient(ratio: float, text: str) -> None:
    assert unit_of(ratio)[0] == text


def test_signals_say_what_kind_of_change_it_is() -> None:
    rng = np.random.default_rng(6)
    past = {"field.x": rng.lognormal(3, 0.5, 5000), "field.c": texts([*"aaab"] * 1250)}
    at = START + np.arange(5000) * 10 * MINUTE

    def told(column: Column, change: str, now: Frame, label: str = "") -> tuple[str, str]:
        stream = stream_of(column, past[f"field.{column.name}"])
        one = level(learn(stream, Frame(past), at, BAR), change, label)
        counted = stream.count(now)
        total, logs, known = counted.values[0].tolist()
        seen = Now(counted.counts, total, logs, known, counted.unseen.get("field.c", {}))
        found = signal(one, stream.columns[0], seen, up=True, size=20.0, since=START, examples=["id"])
        assert (found.subject, found.name, found.since, found.examples) == (
            "field",
            column.name,
            START,
            ("id",),
        )
        return found.change, found.sentence

    assert told(NUM, "range", Frame({"field.x": past["field.x"][:50] * 60}))[0] == "unit"
    assert told(NUM, "level", Frame({"field.x": past["field.x"][:50] * 1.3}))[0] == "level"
    assert told(NUM, "nulls", Frame({"field.x": np.full(50, np.nan)})) == (
        "nulls",
        "x: 100.0% missing, was 0.0%",
    )
    change, sentence = told(CAT, "category", Frame({"field.c": texts(["a"] * 30 + ["B"] * 10)}))
    assert (change, sentence) == ("category", "c: b has gone (25.0% before) and B has come")


def test_what_is_mostly_zero_has_no_unit_and_numbers_are_told_apart() -> None:
    rng = np.random.default_rng(8)
    rain = np.where(rng.random(5000) < 0.9, 0.0, rng.exponential(0.04, 5000))
    told = {}
    for name, past in (("rain", rain), ("snow", rain + 0.1)):
        stream = stream_of(NUM, past)
        series = learn(stream, Frame({"field.x": past}), START + np.arange(5000) * 10 * MINUTE, BAR)
        counted = stream.count(Frame({"field.x": past[:200] * 60}))
        total, logs, known = counted.values[0].tolist()
        seen = Now(counted.counts, total, logs, known, {})
        told[name] = signal(
            level(series), stream.columns[0], seen, up=True, size=20, since=START, examples=[]
        )
    assert told["rain"].change == "level"
    assert told["snow"].change == "unit"
    stream = stream_of(CAT, texts(["a"] * 9999 + ["b"]))
    one = level(learn(stream, Frame({"field.c": texts(["a"])}), np.array([START]), BAR), "category")
    now = Now(np.array([0, 9997, 0, 3]), 0.0, 0.0, 0.0, {})
    found = signal(one, stream.columns[0], now, up=True, size=20, since=START, examples=[])
    share, _, was = found.sentence.partition(" of the rows, was ")
    assert was and share.rpartition(" ")[2] != was
