from __future__ import annotations

from dataclasses import replace

from icekeel.core.time import DAY, HOUR, MINUTE
from icekeel.monitoring import Alert, Origins, Signal, diagnose, group

SOURCES = {
    "wind": ("Weather",),
    "gusts": ("Weather",),
    "load": ("Schedule", "Weather"),
    "overdue": ("Schedule",),
    "distance": (),
}
FIELDS = {"speed": ("miles",), "ratio": ("miles", "seats"), "wide": ("seats",), "load": ("seats",)}


def feature(name: str, size: float = 0.1) -> Signal:
    return Signal("feature", name, f"{name} moved by {size}", size)


def alerts(*signals: Signal, at: int = DAY, open_alerts: tuple[Alert, ...] = ()) -> list[Alert]:
    return group(signals, model="late", at=at, origins=Origins(SOURCES, FIELDS), open_alerts=open_alerts)


def test_a_stale_feed_is_one_alert_named_after_it() -> None:
    found = alerts(
        feature("wind"),
        feature("load", 0.3),
        feature("gusts"),
        Signal("prediction", "mean", "predictions rose"),
        Signal("outcome", "loss", "loss rose"),
    )
    assert [alert.cause for alert in found] == ["source Weather"]
    assert found[0].title == "Weather: 3 features and the predictions and the outcomes moved"
    assert found[0].evidence == (
        "load moved by 0.3",
        "gusts moved by 0.1",
        "wind moved by 0.1",
        "loss rose",
        "predictions rose",
    )
    assert "Weather" in found[0].todo


def test_a_source_that_gave_a_signal_itself_explains_its_features_first() -> None:
    late = Signal("source", "Schedule", "nothing arrived for 3 h")
    found = alerts(feature("load"), feature("wind"), feature("gusts"), late)
    assert [alert.cause for alert in found] == ["source Schedule", "source Weather"]
    assert found[0].evidence == ("nothing arrived for 3 h", "load moved by 0.1")
    assert alerts(late)[0].title == "Schedule: nothing arrived for 3 h"


def test_two_sources_and_a_request_field_are_three_causes() -> None:
    found = alerts(feature("wind"), feature("gusts"), feature("overdue"), feature("distance"), feature("new"))
    assert sorted(alert.cause for alert in found) == [
        "feature distance",
        "feature new",
        "source Schedule",
        "source Weather",
    ]


def test_without_a_source_predictions_and_outcomes_are_their_own_cause() -> None:
    prediction, outcome = Signal("prediction", "mean", "rose"), Signal("outcome", "loss", "rose")
    assert [alert.cause for alert in alerts(prediction)] == ["prediction"]
    found = alerts(outcome, prediction, feature("distance"))
    assert [alert.cause for alert in found] == ["feature distance", "outcome"]
    assert found[1].title == "The predictions and the outcomes moved, and no source explains it"


def test_an_open_alert_is_updated_and_not_raised_again() -> None:
    first = alerts(feature("wind"))[0]
    again = alerts(feature("wind", 0.4), at=2 * DAY, open_alerts=(first,))[0]
    assert (again.id, again.at, again.last_seen, again.times) == (first.id, DAY, 2 * DAY, 2)
    assert again.evidence == ("wind moved by 0.4",)
    other = alerts(feature("overdue"), at=2 * DAY, open_alerts=(first,))[0]
    assert (other.id != first.id, other.times) == (True, 1)


def test_the_order_of_signals_does_not_matter_and_silence_is_no_alert() -> None:
    signals = (feature("wind"), feature("load"), feature("overdue"), Signal("prediction", "mean", "rose"))
    assert alerts(*signals) == alerts(*signals[::-1])
    assert alerts() == []


def test_a_field_whose_unit_changed_is_one_alert_named_after_it() -> None:
    unit = Signal("field", "miles", "miles are 1.6 times what they were", 0.1, "unit", since=5)
    moved = (feature("speed", 3.0), feature("ratio"), Signal("prediction", "mean", "fell", 9.0))
    (found,) = alerts(unit, *moved)
    assert (found.cause, found.diagnosis, found.since) == ("field miles", "bad data", 5)
    assert found.title == "miles: unit, and 2 features and the predictions moved"
    # Without the field's own signal the fields that the features share say it; one feature of two fields does not.
    assert [one.cause for one in alerts(*moved)] == ["field miles"]
    assert [one.cause for one in alerts(feature("ratio"))] == ["feature ratio"]
    assert [one.cause for one in alerts(feature("speed"))] == ["field miles"]


def test_a_segment_that_shifted_is_one_alert_unless_all_segments_did() -> None:
    def moved(*names: str) -> list[Signal]:
        return [Signal("prediction", "mean", f"{one} rose", 1.0, "level", segment=one) for one in names]

    everybody = Signal("prediction", "mean", "all rose", 0.5, "level")
    assert [one.cause for one in alerts(*moved("carrier=AA"), everybody)] == ["segment carrier=AA"]
    assert [one.cause for one in alerts(*moved("carrier=AA", "carrier=B6", "carrier=UA"), everybody)] == [
        "prediction"
    ]
    (folded,) = alerts(*moved("carrier=AA"), Signal("source", "Weather", "late", 0.1, "late"))
    assert (folded.cause, folded.diagnosis) == ("source Weather", "bad data")


def test_an_effect_found_first_becomes_the_alert_of_its_cause() -> None:
    opened = alerts(Signal("prediction", "mean", "rose"), Signal("feature", "distance", "moved"))
    effects = {one.cause: one for one in opened}
    assert set(effects) == {"prediction", "feature distance"}
    late = Signal("source", "Weather", "nothing for 3 h", 1.0, "late")
    (found,) = alerts(late, at=DAY + 20 * MINUTE, open_alerts=tuple(opened))
    prediction = effects["prediction"]
    assert (found.cause, found.id, found.at, found.times) == ("source Weather", prediction.id, DAY, 2)
    assert found.absorbed == ()
    guard = alerts(Signal("guard", "flags", "more flags"))
    (found,) = alerts(late, at=DAY + 20 * MINUTE, open_alerts=(prediction, *guard))
    assert found.absorbed == (guard[0].id,)
    (other,) = alerts(late, at=DAY + 7 * HOUR, open_alerts=(prediction,))
    assert other.id != prediction.id  # too long before: another story


def test_a_cause_that_still_stands_explains_what_comes_after_it() -> None:
    (late,) = alerts(Signal("source", "Weather", "nothing for 3 h", 1.0, "late"))
    after = alerts(Signal("prediction", "mean", "rose"), feature("wind"), at=DAY + HOUR, open_alerts=(late,))
    assert [(one.cause, one.id, one.diagnosis) for one in after] == [("source Weather", late.id, "bad data")]
    gone = alerts(Signal("prediction", "mean", "rose"), at=DAY + 30 * HOUR, open_alerts=(late,))
    assert [one.cause for one in gone] == ["prediction"]


def test_a_keeper_that_stands_still_makes_no_source_late() -> None:
    keeper = Signal("process", "keeper", "the keeper is 20 min behind", 1.0, "late")
    late = Signal("source", "Weather", "nothing for 20 min", 2.0, "late")
    doubled = Signal("source", "Schedule", "rows come twice", 1.0, "doubled")
    assert {one.cause: one.diagnosis for one in alerts(keeper, late, doubled)} == {
        "keeper": "code",
        "source Schedule": "bad data",
    }


def test_load_is_one_alert_and_not_a_matter_of_data() -> None:
    burst, slow = Signal("traffic", "requests", "5 times as many"), Signal("latency", "p99", "p99 is 80 ms")
    assert [(one.cause, one.diagnosis) for one in alerts(burst, slow)] == [("traffic", "capacity")]
    assert [one.cause for one in alerts(slow)] == ["latency"]
    store = Signal("process", "store", "the windows cannot be read")
    assert [one.cause for one in alerts(slow, store)] == ["store"]


def test_a_diagnosis_follows_from_the_kinds_of_change() -> None:
    def of(cause: str, subject: str, change: str) -> str:
        return diagnose(cause, [Signal(subject, "x", "said", 1.0, change)])  # type: ignore[arg-type]

    assert of("source A", "source", "stale") == "bad data"
    assert of("source A", "feature", "shape") == "shift"
    assert of("field a", "field", "category") == "bad data"
    assert of("field a", "field", "level") == "shift"
    assert of("outcome", "outcome", "error") == "changed truth"
    assert of("outcome", "outcome", "late") == "bad data"
    assert of("segment a=b", "prediction", "level") == "shift"
    assert [of(one, "process", "") for one in ("disk", "clock", "challenger late-2", "duty")] == [
        "capacity",
        *["code"] * 3,
    ]


def test_bad_data_are_not_taken_back_by_a_look_that_sees_their_effects_alone() -> None:
    (late,) = alerts(Signal("source", "Weather", "nothing for 3 h", 1.0, "late", examples=("a",)))
    after = alerts(
        Signal("feature", "wind", "moved", 1.0, "shape", examples=("b",)), at=DAY + HOUR, open_alerts=(late,)
    )
    assert [(one.diagnosis, one.examples) for one in after] == [("bad data", ("a", "b"))]


def test_what_a_table_of_outcomes_says_of_the_truth_is_no_fault_of_it() -> None:
    origins = Origins({"load": ["Results"]}, {}, "Results")
    level = Signal("source", "Results", "Results.price: mean 7, was 5", 30.0, "level", since=DAY)
    late = Signal("source", "Results", "rows come 90 minutes late", 30.0, "late", since=DAY)
    for signal, cause in ((level, "outcome"), (late, "source Results")):
        (found,) = group([signal], model="late", at=DAY, origins=origins)
        assert found.cause == cause


def test_an_effect_that_began_long_before_is_of_another_cause() -> None:
    worse = Signal("outcome", "loss", "loss rose", 20.0, "error", since=DAY)
    (before,) = group([worse], model="late", at=DAY, origins=Origins({}, {}))
    later = DAY + 3 * HOUR
    moved = Signal("field", "distance", "distance is null", 30.0, "nulls", since=later)
    for since, same in ((DAY, False), (later, True)):
        opened = replace(before, since=since)
        (found,) = group(
            [moved], model="late", at=later + MINUTE, origins=Origins({}, {}), open_alerts=[opened]
        )
        assert (found.id == before.id) is same
