"""A report with every kind of block, and a registry and status as a living system has them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import structs

from icekeel.console import Block, Callout, Chart, Moment, Report, Section, Table, Tile, Tiles, Timeline
from icekeel.console.charts import Bar, Span, bars, histogram, lines, spans
from icekeel.core.time import DAY, HOUR, parse_time
from icekeel.operations.accounts.trace import FeatureTrace, Gate, Step, Trace, VersionTrace
from icekeel.operations.accounts.window_rows import WindowRows
from icekeel.operations.projections.outcome import OutcomeTrace, Told
from icekeel.registry import Alert, AlertChange, Decision, Json, Registry
from tests.unit.journal.examples import PREDICTED

MARCH = parse_time("2013-03-01")
MONTHS = [parse_time(f"2013-0{month}-01") for month in range(3, 10)]
LIVING = [0.433, 0.441, 0.446, 0.471, 0.468, 0.430, 0.402]
FROZEN: list[float | None] = [0.433, 0.444, 0.452, 0.506, 0.503, 0.441, 0.434]


def errors_by_month() -> Chart:
    marks = [
        (parse_time("2013-04-09"), "late-2 promoted"),
        (parse_time("2013-07-02"), "alert: Departures"),
        (parse_time("2013-07-12"), "late-5 promoted"),
    ]
    return lines(
        "Retraining keeps the error 7 % lower in June, July and September",
        MONTHS,
        {"living system": LIVING, "never retrained": FROZEN},
        x_title="month of departure, 2013",
        y_title="log loss (nats per flight)",
        marks=marks,
    )


def late_rates() -> Chart:
    days = range(214)
    rates = [0.2 + 0.1 * ((day % 7) / 7) + 0.0004 * day for day in days]
    return lines(
        "The rate of late flights swings by the week",
        [MARCH + day * DAY for day in days],
        {"late flights": rates},
        x_title="day of departure, 2013",
        y_title="flights more than 15 minutes late",
        percent=True,
    )


def importances() -> Chart:
    found = [
        ("tail_delay_1d: mean delay of this plane's flights of the last day", 0.061, 0.057, 0.066),
        ("origin_delay_1h", 0.034, 0.030, 0.037),
        ("overdue", 0.021, 0.019, 0.024),
        ("wind", 0.004, 0.002, 0.005),
        ("day_of_week", -0.001, -0.002, 0.001),
    ]
    rows = [Bar(name, value, low, high) for name, value, low, high in found]
    return bars(
        "The plane's own recent flights carry most", rows, x_title="log loss lost without it", digits=3
    )


def raw_against_engineered() -> Chart:
    rows = [
        *(Bar("boosted trees", 0.082, series="raw"), Bar("boosted trees", 0.062, series="engineered")),
        *(Bar("linear", 0.121, series="raw"), Bar("linear", 0.078, series="engineered")),
    ]
    return bars(
        "Features alone take a quarter of the error away",
        rows,
        x_title="mean absolute percentage error",
        digits=1,
        percent=True,
    )


def latencies() -> Chart:
    edges = [100 * 1.25**place for place in range(17)]
    counts = [3, 40, 400, 2_100, 5_800, 8_900, 7_700, 4_900, 2_600, 1_200, 640, 300, 150, 80, 30, 9]
    return histogram(
        "Nine answers in ten take less than a millisecond",
        edges,
        counts,
        x_title="time of one answer (us, logarithmic)",
        y_title="answers",
        marks=[(340.0, "median"), (930.0, "p90"), (2_100.0, "p99")],
        log=True,
    )


def roles() -> Chart:
    turns = [MARCH, parse_time("2013-04-09"), parse_time("2013-07-12"), parse_time("2013-10-01")]
    rows = [
        *(Span("champion", turns[0], turns[1], "late-1"), Span("champion", turns[1], turns[2], "late-2")),
        *(Span("champion", turns[2], turns[3], "late-5"), Span("challenger", turns[0], turns[1], "late-2")),
        *(
            Span("shadow", turns[1], turns[2], "late-3 to late-5"),
            Span("shadow", turns[2], turns[2] + DAY, "no"),
        ),
    ]
    return spans("Three versions answered as champion", rows)


def report() -> Report:
    ladder = Table(
        ("kind", "log loss", "AUC", "us a row", "size", "rows", "against the champion"),
        [
            ("group rate", 0.544, 0.56, 3.1, "12 kB", 12_345_678, "+25.6 %"),
            ("logistic", 0.458, 0.763, 9.0, "88 kB", 12_345_678, "+5.8 %"),
            ("LightGBM", 0.433, 0.788, 34.2, "1.2 MB", 12_345_678, "0 %"),
            ("notebook", None, 0.64, float("nan"), "-", 0, "-3.1 %"),
        ],
        "Every rung was backtested on the same three months",
        strong=[2],
    )
    figures = Tiles(
        [
            Tile("Answers served", "91,204", "no failed request"),
            Tile("Median answer", "412 us", "p99 2.1 ms"),
            Tile("Cost", "-18.5 %", "against the notebook model", "good"),
            Tile("Alerts", "3", "one false", "warn"),
        ]
    )
    moments = [
        Moment(
            MARCH,
            "start_experiment",
            "late-2 takes 20 % of flights",
            "Its features are others than the champion's.",
        ),
        Moment(
            parse_time("2013-04-09"),
            "promote",
            "late-2 becomes champion",
            "cost per answer 0.381 against 0.467; the interval of the difference, -0.11 to -0.06, lies below zero",
            "good",
        ),
        Moment(parse_time("2013-07-02T06:30"), "alert", "Departures: 9 features moved", "", "bad"),
    ]
    sections = [
        Section(
            "What was found",
            "The living system beats the frozen one.\n\nIn April it gained nothing.",
            [figures, errors_by_month(), late_rates()],
        ),
        Section("Features", "", [importances(), raw_against_engineered(), ladder]),
        Section(
            "Serving", "", [latencies(), Callout("One process, one core", "Measured on loopback.", "warn")]
        ),
        Section("Decisions and alerts", "", [roles(), Timeline(moments)]),
    ]
    lead = "336,776 flights of 2013 were replayed. The retrained model erred less in every month but April."
    return Report(
        "Will this flight be late?", lead, sections, "Icekeel 0.1.0, seed 7, `icekeel demo flights`."
    )


def hostile(text: str) -> Report:
    """A report all of whose texts are the one given."""
    blocks: list[Block] = [
        lines(
            text,
            [1.0, 2.0],
            {text: [1.0, 2.0], text + "2": [2.0, 1.0]},
            x_title=text,
            y_title=text,
            marks=[(1.5, text)],
            dates=False,
        ),
        bars(text, [Bar(text, 1.0, series=text), Bar(text, 2.0, series="b")], x_title=text),
        spans(text, [Span(text, 0, DAY, text)]),
        Table((text,), [(text,)], text),
        Tiles([Tile(text, text, text)]),
        Callout(text, text),
        Timeline([Moment(0, text, text, text)]),
    ]
    return Report(text, text, [Section(text, text, blocks)] * 3, text)


def fill(registry: Registry, text: str = "scheduled: every month") -> dict[str, Any]:
    """Versions, decisions and alerts as a replay leaves them; gives the status of the process that serves them."""
    passed: list[Json] = [
        {"name": name, "passed": True, "why": "fine"} for name in ("parity", "latency", "calibration")
    ]
    failed: list[Json] = [
        *passed,
        {
            "name": "no_worse_than_champion",
            "passed": False,
            "why": "log loss 0.471 against 0.433 on the same 9,204 rows, margin 0.002",
        },
    ]
    for number in range(1, 6):
        registry.register(
            "late",
            f"{number:064x}",
            snapshot="s",
            code="c",
            features="Features" if number > 1 else "Notebook",
            metrics={},
            gates=failed if number == 4 else passed,
            ladder={"winner": "lightgbm"},
            trained_from=0,
            trained_to=MARCH,
            reason=text,
            at=MARCH + number * 30 * DAY,
        )
    registry.set_alias("late", "champion", "late-2", reason=text, by="loop", at=MARCH + 40 * DAY)
    registry.set_alias("late", "challenger", "late-3", share=0.2, reason=text, by="loop", at=MARCH + 90 * DAY)
    registry.set_alias("late", "shadow", "late-5", share=0.0, reason=text, by="loop", at=MARCH + 150 * DAY)
    for number, kind in enumerate(["promote", "start_experiment", "block", "start_shadow"] * 6):
        registry.record(
            Decision(
                id=f"d{number}",
                at=MARCH + number * DAY,
                model="late",
                kind=kind,
                version="late-2",
                reason=f"{text} ({number})",
            )
        )
    evidence = {
        "title": "Departures: 9 features and the predictions moved",
        "sentences": ["origin_delay_1h: PSI 0.31", text],
    }
    todo = (
        "Look at the newest rows and the delivery times of Departures; block training until it is explained."
    )
    registry.record(
        Alert(id="a", at=MARCH, model="late", cause="source Departures", todo=todo, evidence=evidence)
    )
    registry.record(
        Alert(id="b", at=MARCH, model="late", cause="closed one", todo="nothing", resolved_at=MARCH + 1)
    )
    return {
        "now": MARCH + 180 * DAY,
        "models": {"late": {"champion": "late-2", "challenger": None}},
        "keeper": {"now": MARCH + 180 * DAY - 3 * HOUR, "pushed": 1_234_567},
        "problems": [f"late, challenger: late-3 has a damaged file ({text})"],
    }


def filled(folder: Path, text: str = "scheduled: every month") -> tuple[dict[str, Any], Registry]:
    """A status and its registry in a folder."""
    registry = Registry(folder / "registry.db", clock=lambda: MARCH)
    return fill(registry, text), registry


def trace(hostile: str = "") -> Trace:
    """A trace in which everything occurs, and `hostile` wherever a caller's text may."""
    window = WindowRows(
        "Orders by customer, last 30d: count", "Orders", {"customer": hostile or "ann"}, 2, None
    )
    newest = {"id": hostile or "o7", "at": "2025-03-01T00:00:00Z", "known_from": "2025-03-02T00:00:00Z"}
    features = [
        FeatureTrace("orders", 2.0, f"[{window.window}]", "window", True, {}, [window], 2.0, "equal"),
        FeatureTrace(
            "spent",
            9.5,
            "[Orders by customer]",
            "window",
            False,
            {},
            [replace(window, newest=newest)],
            9.0,
            "differs",
        ),
        FeatureTrace("ink", hostile or "gold", None, "", None, {"ink": hostile or "gold"}, [], None, ""),
    ]
    step = Step(
        "2025-03-01T00:00:00Z", "champion", "set", "price-3", 1.0, "ann", hostile or "better", "tried"
    )
    version = VersionTrace(
        "price-3", step.at, hostile or "asked for", "Engineered", "lightgbm", 8_000, step.at, step.at,
        "a" * 64, "b" * 64, [Gate("parity", True, hostile or "equal"), Gate("size", False, "too large")], step, [step],
    )  # fmt: skip
    told = [Told("q1", step.at, {"price": 12.0, "note": hostile or "x"}), Told("q1", step.at, None)]
    outcome = OutcomeTrace("known", 12.0, step.at, "Results", {"quote_id": hostile or "q1"}, told)
    record = structs.replace(
        PREDICTED,
        request={"ink": hostile or "gold"},
        reasons=[hostile or "never seen"],
        codes=["unseen_value:ink"],
    )
    return Trace(record, version, features, outcome, "1 of 2 features differ", [hostile or "a note"])


def alert(text: str = "nothing for 3 h") -> Alert:
    """An alert with all that it can have."""
    at = [MARCH + hour * 3_600_000_000 for hour in range(24)]
    series = {"name": text, "at": at, "values": [1.0] * 20 + [5.0] * 4, "low": 0.5, "high": 1.5}
    evidence = {
        "title": text,
        "sentences": [text, text],
        "diagnosis": "bad data",
        "since": at[19],
        "reckoning": text,
        "series": series,
        "examples": ["0" * 28],
    }
    change = AlertChange(alert="a1", state="acknowledged", by=text, reason=text, at=at[23])
    return Alert(
        id="a1",
        at=at[22],
        model="late",
        cause=f"source {text}",
        todo=text,
        evidence=evidence,
        changes=(change,),
    )
