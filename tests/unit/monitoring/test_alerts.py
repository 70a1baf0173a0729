from __future__ import annotations

from icekeel.core.time import DAY
from icekeel.monitoring import Alert, Signal, group

SOURCES = {
    "wind": ("Weather",),
    "gusts": ("Weather",),
    "load": ("Schedule", "Weather"),
    "overdue": ("Schedule",),
    "distance": (),
}


def feature(name: str, size: float = 0.1) -> Signal:
    return Signal("feature", name, f"{name} moved by {size}", size)


def alerts(*signals: Signal, at: int = DAY, open_alerts: tuple[Alert, ...] = ()) -> list[Alert]:
    return group(signals, model="late", at=at, sources=SOURCES, open_alerts=open_alerts, severity="$5,000")


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
    assert "Weather" in found[0].first_thing_to_do
    assert found[0].severity == "$5,000"


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
