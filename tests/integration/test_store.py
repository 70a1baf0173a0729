"""The feature store as other programs use it, beside the keeper: the numbers of serving and training, and no others."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest

import icekeel as ik
from icekeel.app import App
from icekeel.core.errors import Fault, IcekeelError, ProjectError, RequestError, SourceError, StateError
from icekeel.core.time import DAY, HOUR, MINUTE, format_time, to_datetime
from icekeel.journal import Predicted, scan
from icekeel.settings import Settings
from icekeel.testing.small import REQUEST, TRAINED_TO, keep_up, small_world, train_small, write_small_project

NOW = TRAINED_TO + HOUR
WORLD = small_world(60)
PARCEL = {"parcel_id": "new", "depot": "north", "service": "express", "weight": 3.5}
FEATURES = ["depot", "service", "weight", "backlog", "backlog_trend", "late_1d", "delivered_1d"]
COLUMNS = [f"feature.{name}" for name in FEATURES]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained project whose windows are up to date; to be copied."""
    folder = tmp_path_factory.mktemp("small") / "small"
    write_small_project(folder)
    train_small(folder)
    keep_up(App(folder, Settings(), clock=lambda: TRAINED_TO))
    return folder


Opened = Callable[..., ik.FeatureStore]


@pytest.fixture
def opened(folder: Path) -> Iterator[Opened]:
    stores: list[ik.FeatureStore] = []

    def at(now: int = NOW) -> ik.FeatureStore:
        stores.append(ik.FeatureStore(App(folder, Settings(), clock=lambda: now)))
        return stores[-1]

    yield at
    for store in stores:
        store.close()


def asked(n: int = 40) -> list[dict[str, Any]]:
    """Questions of the last two days, in no order, with a column that is no field of the request."""
    rows = WORLD.questions[-120:]
    return [
        {"note": f"é{at}", **rows[at]} for at in np.random.default_rng(1).permutation(len(rows))[:n].tolist()
    ]


def close(value: Any) -> Any:
    """Equal but for the order in which numbers were added."""
    if isinstance(value, list):
        return [close(one) for one in value]
    return pytest.approx(value, rel=1e-12) if isinstance(value, float) else value


def read(relation: Any) -> Any:
    return pd.DataFrame(relation.fetchall(), columns=relation.columns)


def values(rows: list[dict[str, Any]]) -> list[list[Any]]:
    return [[row[name] for name in COLUMNS] for row in rows]


def test_a_request_gets_the_numbers_that_an_answer_is_made_of(opened: Opened, folder: Path) -> None:
    store = opened()
    (row,) = store.get_online_features("late", [PARCEL])
    assert (list(row.features), row.asked_at, row.degraded) == (FEATURES, NOW, ["keeper_behind"])
    assert row.features_age_s == (NOW - max(one["delivered_at"] for one in deliveries())) / 1e6
    store.close()
    app = App(folder, Settings(), clock=lambda: NOW)
    with app.online(readonly=True) as online, app.journal("test") as journal:
        registry = app.registry()
        app.answerers(registry, journal, online)["late"].answer(PARCEL)
        registry.close()
    (entry,) = scan(app.places.journal, kinds=Predicted)
    assert entry.features == row.features


def deliveries() -> list[Any]:
    return [row for row in WORLD.deliveries if row["delivered_at"] < TRAINED_TO]


def test_now_and_then_are_the_same_numbers(opened: Opened) -> None:
    store = opened()
    requests = [PARCEL, {**PARCEL, "depot": "south", "weight": None}, {**PARCEL, "depot": "never seen"}]
    online = [list(row.features.values()) for row in store.get_online_features("late", requests)]
    then = store.get_historical_features("late", [row | {"at": NOW} for row in requests], asked_at="at")
    assert values(then) == close(online)
    assert online[0][5] is not None
    assert online[2][3:] == [None, None, None, 0.0]


def test_history_is_recomputed_by_hand(opened: Opened) -> None:
    rows = opened().get_historical_features("late", asked(), asked_at="asked_at")
    assert [{key: row[key] for key in row if key not in COLUMNS} for row in rows] == asked()
    for row in rows:
        at = row["asked_at"]
        mine = [
            one
            for one in WORLD.deliveries
            if one["depot"] == row["depot"] and at - DAY <= one["delivered_at"] < at
        ]
        scans = [one for one in WORLD.scans if one["depot"] == row["depot"] and one["booked_at"] <= at]
        assert row["feature.delivered_1d"] == len(mine)
        newest = [one for one in scans if at - 6 * HOUR <= one["scanned_at"] < at]
        assert row["feature.backlog"] == (newest[-1]["backlog"] if newest else None)


def test_fields_that_the_asked_features_do_not_read_may_be_left_out(opened: Opened) -> None:
    store = opened()
    (row,) = store.get_online_features("late", [{"depot": "north"}], ["late_1d", "backlog"])
    (every,) = store.get_online_features("late", [PARCEL])
    assert row.features == {name: every.features[name] for name in ("late_1d", "backlog")}
    table = [{"depot": "north", "at": NOW}]
    (then,) = store.get_historical_features("late", table, asked_at="at", features=["late_1d", "backlog"])
    assert list(then) == [*table[0], "feature.late_1d", "feature.backlog"]
    assert list(then.values()) == [
        "north",
        NOW,
        *(close(every.features[name]) for name in ("late_1d", "backlog")),
    ]
    assert store.historical_rows("late", [{"depot": "north", "asked_at": NOW}], ["late_1d"]) == [
        {"late_1d": close(every.features["late_1d"])}
    ]
    for features in (["late_1d", "service"], None):
        with pytest.raises(RequestError) as caught:
            store.get_online_features("late", [{"depot": "north"}], features)
        assert {fault.code for fault in caught.value.faults} == {"missing_field"}


WRONG: list[tuple[Callable[[ik.FeatureStore], object], type[IcekeelError], list[tuple[str, str]]]] = [
    (lambda s: s.get_online_features("lat", [PARCEL]), ProjectError, [("unknown_model", "")]),
    (
        lambda s: s.get_online_features("late", [PARCEL], ["late1d", "x"]),
        RequestError,
        [("unknown_feature", "features")] * 2,
    ),
    (
        lambda s: s.get_online_features("late", [PARCEL], ["depot", "depot"]),
        RequestError,
        [("twice", "features")],
    ),
    (lambda s: s.get_online_features("late", [PARCEL], []), RequestError, [("no_features", "features")]),
    (
        lambda s: s.get_online_features(
            "late", [PARCEL, {**PARCEL, "weight": 51, "depot": 1}, {**PARCEL, "x": 1}]
        ),
        RequestError,
        [("wrong_type", "rows[1].depot"), ("out_of_range", "rows[1].weight"), ("unknown_field", "rows[2]")],
    ),
    (
        lambda s: s.get_historical_features(
            "late", [{**PARCEL, "at": "soon"}, {**PARCEL, "weight": "?"}, 5], asked_at="at"
        ),
        RequestError,
        [
            ("bad_time", "rows[0].at"),
            ("wrong_type", "rows[1].weight"),
            ("missing_field", "rows[1].at"),
            ("not_an_object", "rows[2]"),
        ],
    ),
    (
        lambda s: s.get_historical_features("late", pd.DataFrame([{**PARCEL, "depot": 5}]), asked_at="at"),
        SourceError,
        [("missing_column", "table"), ("wrong_type", "table")],
    ),
    (
        lambda s: s.get_historical_features(
            "late", pd.DataFrame([{**PARCEL, "weight": np.inf, "at": 2**60}]), asked_at="at"
        ),
        SourceError,
        [("bad_time", "table"), ("not_finite", "table")],
    ),
    (
        lambda s: s.get_historical_features(
            "late", [{**PARCEL, "at": NOW, "feature.depot": 1}], asked_at="at"
        ),
        SourceError,
        [("twice", "")],
    ),
    (lambda s: s.get_historical_features("late", 5, asked_at="at"), SourceError, [("not_a_table", "table")]),
    (
        lambda s: s.get_historical_features("late", "x.xls", asked_at="at"),
        SourceError,
        [("unknown_format", "x.xls")],
    ),
    (
        lambda s: s.get_historical_features("late", asked(), asked_at="asked_at", now=TRAINED_TO - DAY),
        SourceError,
        [("asked_later", "asked_at")],
    ),
    (lambda s: s.push_events("Scan", [{}]), RequestError, [("unknown_table", "")]),
    (lambda s: s.push_events("Scans", []), RequestError, [("no_rows", "rows")]),
    (lambda s: s.delete_events("Scans", ["s"] * 10_001), RequestError, [("too_many_rows", "rows")]),
    (lambda s: s.delete_events("Scans", "abc"), RequestError, [("no_rows", "delete")]),
    (lambda s: s.push_events("Scans", pd.DataFrame({"a": [1]})), RequestError, [("no_rows", "rows")]),
]


@pytest.mark.parametrize(("ask", "error", "wanted"), WRONG)
def test_every_fault_is_named_with_its_place(
    opened: Opened,
    ask: Callable[[ik.FeatureStore], object],
    error: type[IcekeelError],
    wanted: list[tuple[str, str]],
) -> None:
    with pytest.raises(error) as caught:
        ask(opened())
    assert [(fault.code, fault.where) for fault in caught.value.faults] == wanted


# The kinds of table


def frame(rows: list[dict[str, Any]]) -> Any:
    made = pd.DataFrame(rows, index=[f"i{at}" for at in range(len(rows))])
    made["asked_at"] = pd.to_datetime(made["asked_at"], unit="us", utc=True)
    return made.astype({"depot": "category"})


def test_a_data_frame_keeps_its_columns_index_and_order(opened: Opened) -> None:
    given, listed = frame(asked()), opened().get_historical_features("late", asked(), asked_at="asked_at")
    before = given.copy()
    got = opened().get_historical_features("late", given, asked_at="asked_at")
    pd.testing.assert_frame_equal(given, before)
    pd.testing.assert_frame_equal(got[list(given.columns)], before)
    assert list(got.columns) == [*before.columns, *COLUMNS]
    pd.testing.assert_frame_equal(got[COLUMNS].reset_index(drop=True), pd.DataFrame(listed)[COLUMNS])


@pytest.mark.parametrize("name", ["asked.parquet", "asked.csv"])
def test_a_path_gives_a_relation_that_becomes_what_is_needed(
    opened: Opened, tmp_path: Path, name: str
) -> None:
    given = frame(asked())
    given["_row"] = 5
    given["parcel_id"] = [f"00{at}" for at in range(len(given))]  # a text, however it looks
    relation = duckdb.from_df(given)
    path = tmp_path / name
    relation.write_parquet(str(path)) if path.suffix == ".parquet" else relation.write_csv(str(path))
    got = opened().get_historical_features("late", path, asked_at="asked_at", features=["depot", "late_1d"])
    listed = opened().get_historical_features("late", asked(), asked_at="asked_at")
    assert got.columns == [*given.columns, "feature.depot", "feature.late_1d"]
    assert got.select("note").fetchall() == [(row["note"],) for row in asked()]
    assert got.select("parcel_id").fetchall() == [(name,) for name in given["parcel_id"]]
    assert got.select('"feature.late_1d"').fetchall() == [(row["feature.late_1d"],) for row in listed]
    got.write_parquet(str(tmp_path / "out.parquet"))
    again = duckdb.from_parquet(str(tmp_path / "out.parquet"))
    assert (again.columns, len(again)) == (got.columns, len(asked()))


class Stream:
    """Something that streams Arrow, once, and is no table of a library known here."""

    def __init__(self, table: Any) -> None:
        self._tables = [table]

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._tables.pop().__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize("kind", ["polars", "arrow", "stream"])
def test_a_frame_of_another_library_comes_back_as_one(opened: Opened, kind: str) -> None:
    library = importlib.import_module("polars" if kind == "polars" else "pyarrow")
    rows = [row | {"weight": None} for row in asked()]
    given = library.DataFrame(rows) if kind == "polars" else library.Table.from_pylist(rows)
    store = opened()
    got = store.get_historical_features(
        "late", Stream(given) if kind == "stream" else given, asked_at="asked_at"
    )
    assert type(got) is type(given)
    listed = got.to_dicts() if kind == "polars" else got.to_pylist()
    assert listed == store.get_historical_features("late", rows, asked_at="asked_at")


def test_what_streams_arrow_needs_what_gives_it_back(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SourceError) as caught:
        opened().get_historical_features("late", Stream(None), asked_at="asked_at")
    assert [(fault.code, fault.hint) for fault in caught.value.faults] == [
        ("no_pyarrow", "pip install pyarrow")
    ]


def test_the_rows_of_a_large_file_stay_in_order(opened: Opened, tmp_path: Path) -> None:
    path, n = tmp_path / "asked.parquet", 300_000
    rows = f"SELECT 'p' || (range * 7919 % {n}) AS depot, range, {NOW} AS at FROM range({n})"
    duckdb.sql(f"COPY ({rows}) TO '{path}' (ROW_GROUP_SIZE 10000)")
    got = opened().get_historical_features("late", path, asked_at="at", features=["depot"]).fetchnumpy()
    assert (got["range"] == np.arange(n)).all()
    assert (got["depot"] == got["feature.depot"]).all()


def test_no_questions_are_none(opened: Opened) -> None:
    store = opened()
    assert store.get_historical_features("late", [], asked_at="asked_at") == []
    assert store.get_online_features("late", []) == []
    got = store.get_historical_features("late", frame(asked()).iloc[:0], asked_at="asked_at")
    assert (len(got), list(got.columns)[-1]) == (0, COLUMNS[-1])


# Events in


def release(store: ik.FeatureStore) -> None:
    """Close the store, and begin it anew: a keeper in this process opens the same environment."""
    store.close()
    ik.FeatureStore.__init__(store, store.app)


def both(store: ik.FeatureStore, folder: Path, at: int) -> tuple[list[Any], list[Any]]:
    """Counts and means online and offline at a time, once a keeper has caught up."""
    release(store)
    keep_up(App(folder, Settings(), clock=lambda: at))
    store.app.clock = lambda: at
    (row,) = store.get_online_features("late", [PARCEL])
    (then,) = store.get_historical_features("late", [{**PARCEL, "at": at}], asked_at="at")
    names = ["backlog", "late_1d", "delivered_1d"]
    return [row.features[name] for name in names], [then[f"feature.{name}"] for name in names]


def test_what_is_pushed_corrected_and_deleted_counts_alike_now_and_then(opened: Opened, folder: Path) -> None:
    store = opened()
    nothing, _ = both(store, folder, NOW)
    scan = {
        "scan_id": "s",
        "depot": "north",
        "backlog": np.float64(77),
        "scanned_at": to_datetime(NOW - MINUTE),
    }
    rows = [scan, {**scan, "scan_id": "bad", "backlog": -1}]
    accepted = store.push_events("Scans", rows)
    assert (accepted.kept, list(accepted.faults)) == (1, [1])
    landed = {
        "parcel_id": "x",
        "depot": "north",
        "minutes_late": 1e6,
        "delivered_at": datetime.fromtimestamp(NOW / 1e6, UTC),
    }
    store.push_events("Deliveries", [landed, {**landed, "parcel_id": "y"}])
    online, offline = both(store, folder, NOW + 10)
    assert offline == close(online)
    assert (online[0], online[2]) == (77.0, nothing[2] + 2)
    assert online[1] > 1e4
    store.push_events("Scans", [{**scan, "backlog": 5}])
    store.push_events("Deliveries", [{**landed, "minutes_late": 0}])
    assert store.delete_events("Deliveries", ["y", "never seen"]).deleted == 2
    online, offline = both(store, folder, NOW + 20)
    assert offline == close(online)
    assert (online[0], online[2]) == (5.0, nothing[2] + 1)
    assert online[1] < 1e4
    store.delete_events("Scans", ["s"])
    store.delete_events("Deliveries", ["x"])
    assert both(store, folder, NOW + 30) == (close(nothing), close(nothing))
    times = [{**PARCEL, "at": NOW + 5}, {**PARCEL, "at": NOW + 15}]
    counts = [
        row["feature.delivered_1d"] for row in store.get_historical_features("late", times, asked_at="at")
    ]
    assert counts == [nothing[2] + 2, nothing[2] + 1]  # as it was known then


def test_whatever_is_told_in_whatever_order_now_and_then_agree(opened: Opened, folder: Path) -> None:
    """Rows, corrections that move an event in time or to another depot, deletions early, late and repeated."""
    store, rng = opened(), np.random.default_rng(5)
    ids = [f"e{at}" for at in range(12)] + [row["parcel_id"] for row in deliveries()[-12:]]

    def row() -> dict[str, Any]:
        at = NOW - int(rng.choice([MINUTE, HOUR, DAY - 30, DAY + HOUR, 9 * DAY]))
        late, depot = float(rng.integers(-50, 50)) * 0.37, str(rng.choice(["north", "south"]))
        return {"parcel_id": str(rng.choice(ids)), "depot": depot, "minutes_late": late, "delivered_at": at}

    seen = set()
    for step in range(6):
        for _ in range(3):  # all at one moment: of versions that are known from then the last told holds
            store.push_events("Deliveries", [row() for _ in range(rng.integers(1, 9))])
            store.delete_events("Deliveries", rng.choice(ids, rng.integers(1, 6)).tolist())
        online, offline = both(store, folder, NOW + 10 * (step + 1))
        assert offline == close(online)
        seen.add(online[2])
    assert len(seen) > 3


def test_a_file_deletes_online_and_offline_too(folder: Path, opened: Opened) -> None:
    project = folder / "project.py"
    text = project.read_text().replace('source="deliveries.csv"', 'source="deliveries*.csv", deleted="void"')
    project.write_text(
        text.replace(
            "minutes_late: ik.Num\n",
            "minutes_late: ik.Num = ik.optional()\n    void: ik.Flag = ik.optional()\n",
        )
    )
    store = opened(TRAINED_TO)
    before, _ = both(store, folder, TRAINED_TO)
    gone = [
        row
        for row in deliveries()
        if row["depot"] == "north" and row["delivered_at"] >= TRAINED_TO - HOUR * 12
    ]
    header, *lines = (folder / "deliveries.csv").read_text().splitlines()
    listed = [line for line in lines if line.split(",")[0] in {row["parcel_id"] for row in gone}]
    voided = [f"{line.split(',')[0]},,,{line.split(',')[3]},true" for line in listed]
    (folder / "deliveries-2.csv").write_text("\n".join([f"{header},void", *voided]))
    release(store)
    store.app.ingest(["Deliveries"])
    online, offline = both(store, folder, TRAINED_TO)
    assert offline == close(online)
    assert len(gone) > 3
    assert online[2] == before[2] - len(gone)


AHEAD = """
class Shifts(ik.Events, time="begins_at", available="planned_at", id="shift", source="shifts.csv"):
    shift: ik.Id
    depot: ik.Cat


class Insured(ik.Events, time="since", id="parcel_id", source="insured.csv"):
    parcel_id: ik.Id
    value: ik.Num


class Windowed(Plain):
    staff = Shifts.where(depot=Parcel.depot).next("8h").count()
    insured = Insured.of(parcel_id=Parcel.parcel_id).value
"""


def test_only_a_table_that_is_looked_up_or_ahead_in_holds_what_is_to_come(folder: Path) -> None:
    project = folder / "project.py"
    text = project.read_text().replace("class Windowed(Plain):\n", AHEAD)
    project.write_text(text.replace("deliveries.csv", "later.csv").replace("scans.csv", "more.csv"))
    soon = NOW + DAY
    (folder / "shifts.csv").write_text(f"shift,depot,begins_at,planned_at\ns,north,{soon},{NOW}\n")
    (folder / "insured.csv").write_text(f"parcel_id,value,since\np,5,{soon}\n")
    (folder / "later.csv").write_text(f"parcel_id,depot,minutes_late,delivered_at\np,north,5,{soon}\n")
    (folder / "more.csv").write_text(f"scan_id,depot,backlog,scanned_at,booked_at\ns,north,5,{soon},{NOW}\n")
    app = App(folder, Settings(), clock=lambda: NOW)
    assert app.ahead == {"Shifts", "Insured"}
    assert {one.table: dict(one.reasons) for one in app.ingest([])} == {
        "Shifts": {},
        "Insured": {},
        "Deliveries": {"delivered_at: in the future": 1},
        "Scans": {"scanned_at: after booked_at": 1},
    }


# What cannot be


def test_without_online_state_it_says_what_makes_it(folder: Path, opened: Opened) -> None:
    shutil.rmtree(folder / ".icekeel" / "online")
    store = opened()
    with pytest.raises(StateError) as caught:
        store.get_online_features("late", [PARCEL])
    assert caught.value.code == "no_online_state"
    assert caught.value.faults[0].hint.startswith("is the keeper running? icekeel up starts it")
    assert len(store.get_historical_features("late", asked(3), asked_at="asked_at")) == 3
    keep_up(App(folder, Settings(), clock=lambda: TRAINED_TO))
    assert len(store.get_online_features("late", [PARCEL])) == 1


def test_online_state_made_anew_is_read(folder: Path, opened: Opened) -> None:
    store, keeper = opened(), folder / "keeper"
    (before,) = store.get_online_features("late", [PARCEL], ["delivered_1d"])
    landed = {"parcel_id": "x", "depot": "north", "minutes_late": 1, "delivered_at": NOW - 1}
    store.push_events("Deliveries", [landed])
    shutil.copytree(folder, keeper)
    keep_up(App(keeper, Settings(), clock=lambda: NOW))
    shutil.rmtree(folder / ".icekeel" / "online")
    shutil.copytree(keeper / ".icekeel" / "online", folder / ".icekeel" / "online")
    (after,) = store.get_online_features("late", [PARCEL], ["delivered_1d"])
    (counted,), (now,) = before.features.values(), after.features.values()
    assert now == float(counted or 0) + 1


def test_a_project_is_opened_by_its_folder(folder: Path, tmp_path: Path) -> None:
    with ik.open_store(str(folder)) as store:
        assert store.get_online_features("late", [PARCEL])[0].degraded == ["keeper_behind"]
    with pytest.raises(ProjectError) as caught:
        ik.open_store(tmp_path)
    assert isinstance(caught.value.faults[0], Fault)


# Training sets


def test_a_training_set_is_what_training_learns_from(opened: Opened) -> None:
    store = opened(TRAINED_TO)
    got = read(store.get_training_set("late"))
    assert list(got.columns) == [
        "parcel_id", "depot", "service", "weight", "_asked_at", *COLUMNS, "_target", "_status",
    ]  # fmt: skip
    assert len(got) == len(WORLD.questions)
    by_parcel = {row["parcel_id"]: row for row in deliveries()}
    for row in got.to_dict("records"):
        landed = by_parcel.get(row["parcel_id"])
        assert row["_status"] == ("pending" if landed is None else "known")
        assert landed is None or row["_target"] == float(landed["minutes_late"] > 15)
    then = store.get_historical_features(
        "late",
        got[["parcel_id", "depot", "service", "weight", "_asked_at"]],
        asked_at="_asked_at",
        outcome=True,
    )
    pd.testing.assert_frame_equal(
        then[[*COLUMNS, "_target", "_status"]], got[[*COLUMNS, "_target", "_status"]]
    )


def test_a_training_set_of_then_is_as_it_was_known_then(opened: Opened) -> None:
    store = opened(TRAINED_TO)
    then = TRAINED_TO - 20 * DAY + 15 * HOUR
    got = read(store.get_training_set("late", now=format_time(then), features=["late_1d"]))
    assert len(got) == sum(row["asked_at"] <= then for row in WORLD.questions)
    known = {row["parcel_id"] for row in deliveries() if row["delivered_at"] <= then}
    pending = set(got["parcel_id"][got["_status"] == "pending"])
    assert pending == set(got["parcel_id"]) - known
    assert pending
    store.delete_events("Deliveries", sorted(known))  # what is said later changes nothing of then
    pd.testing.assert_frame_equal(read(store.get_training_set("late", now=then, features=["late_1d"])), got)


def test_a_closed_store_neither_answers_nor_takes_events(opened: Opened) -> None:
    store = opened()
    store.get_online_features("late", [PARCEL])
    store.close()
    for use in (
        lambda: store.get_online_features("late", [PARCEL]),
        lambda: store.get_historical_features("late", [{**PARCEL, "at": NOW}], asked_at="at"),
        lambda: store.get_training_set("late"),
        lambda: store.get_answers("late"),
        lambda: store.delete_events("Deliveries", ["x"]),
    ):
        with pytest.raises(StateError) as caught:
            use()
        assert caught.value.code == "store_closed"


def test_answers_are_found_as_over_http(folder: Path, opened: Opened) -> None:
    app = App(folder, Settings(), clock=lambda: NOW)
    registry = app.registry()
    with app.journal("serve") as journal, app.online(readonly=True) as online:
        answerer = app.answerers(registry, journal, online)["late"]
        given = [answerer.answer({**REQUEST, "parcel_id": name}) for name in ("one", "two")]
    registry.close()
    store = opened()
    assert [one.id for one in store.get_answers("late", since=NOW, limit=1)] == [given[1].prediction_id]
    assert [one.id for one in store.get_answers(key="one")] == [given[0].prediction_id]
    assert store.get_answers(until=NOW) == []
    with pytest.raises(RequestError) as caught:
        store.get_answers(verdict="bad", before="zz", limit=0)
    assert {fault.where for fault in caught.value.faults} == {"verdict", "before", "limit"}


def test_a_question_of_the_future_is_refused(opened: Opened) -> None:
    store = opened()
    with pytest.raises(SourceError) as caught:
        store.get_historical_features(
            "late", [{**PARCEL, "at": NOW}, {**PARCEL, "at": NOW + 1}], asked_at="at"
        )
    assert (caught.value.code, caught.value.faults[0].what[:6]) == ("asked_later", "1 rows")
    with pytest.raises(RequestError) as refused:
        store.historical_rows("late", [{**PARCEL, "asked_at": NOW + 1}])
    assert refused.value.code == "asked_later"


def test_a_training_set_makes_no_registry(folder: Path, opened: Opened) -> None:
    registry = folder / ".icekeel" / "registry.db"
    registry.unlink()
    assert len(opened().get_training_set("late").fetchall()) > 100
    assert not registry.exists()
