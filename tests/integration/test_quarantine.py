"""Rows go out of quarantine repaired, once, with who and why, and no crash loses or doubles one."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from icekeel.app import App
from icekeel.core.errors import SourceError
from icekeel.core.time import parse_time
from icekeel.data import AVAILABLE, History
from icekeel.data.quarantine import Resolution, SetAside, hand_out, read_back, set_aside
from icekeel.testing.small import write_rows

from .commands import icekeel

PROJECT = """
import icekeel as ik

class Quote(ik.Request):
    quote_id: ik.Id
    customer: ik.Id = ik.private()

class Orders(ik.Events, time="ordered_at", available="booked_at", id="order_id", source="orders.csv"):
    order_id: ik.Id
    customer: ik.Id = ik.private() & ik.matches(r"C\\d+")
    net: ik.Num = ik.at_least(0)
    email: ik.Text = ik.unique(optional=True)
    paid: ik.Flag = ik.optional()

class Features(ik.Features):
    orders = Orders.where(customer=Quote.customer).last("30d").count()

net = ik.Model("net", Quote, Features, history=ik.table_of(Quote, "q.csv", asked_at="asked_at"),
    target=Orders.where(order_id=Quote.quote_id).within("9d").net.latest(absent=ik.UNKNOWN), error="mae",
    choose=ik.Simplest(within=ik.usd_per_year(1, error_point=1)))
"""
ORDERS = """order_id,customer,net,email,paid,ordered_at,booked_at
o1,C1,5,a@x,true,2025-03-01T00:00:00Z,2025-03-02T00:00:00Z
o2,C2,-5,b@x,true,2025-03-01T00:00:00Z,2025-03-03T00:00:00Z
o3,D3,5,c@x,,2025-03-01T00:00:00Z,2025-03-02T00:00:00Z
o4,C4,5,a@x,false,2025-03-01T00:00:00Z,2025-03-02T00:00:00Z
"""
NOW = parse_time("2025-06-01")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    (tmp_path / "project.py").write_text(PROJECT)
    (tmp_path / "orders.csv").write_text(ORDERS)
    app = App(tmp_path, clock=lambda: NOW)
    app.ingest([])
    yield app
    assert app.vault is not None
    app.vault.close()


def waiting(app: App) -> dict[str, SetAside]:
    rows = set_aside(app.history(), app.places.journal, "Orders")
    return {str(one.row.get("order_id")): one for one in rows if not one.decision}


def exported(app: App, change: Callable[[dict[str, str]], None]) -> Path:
    """The file that is handed out, with every row changed."""
    target = app.folder / "rows.csv"
    table = app.project.tables["Orders"]
    hand_out(set_aside(app.history(), app.places.journal, "Orders"), table, target)
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        change(row)
    write_rows(target, rows)
    return target


def repair(row: dict[str, str]) -> None:
    repairs = {"o2": {"net": "7"}, "o3": {"customer": "C1"}, "o4": {"email": "d@x"}, "p1": {"net": "3"}}
    row |= repairs[row["order_id"]]


def admit(app: App, target: Path, reason: str) -> Resolution:
    table = app.project.tables["Orders"]
    rows = read_back(target, table)
    assert app.vault is not None
    with app.journal("test") as journal:
        return app.desk(by="ann", reason=reason).admit(table, rows, journal, app.vault.hide)


def kept(app: App) -> list[tuple[Any, ...]]:
    files = [str(path) for path in app.history().files("Orders")]
    with duckdb.connect() as connection:
        return connection.execute(
            f"SELECT order_id, net, email, paid, booked_at, {AVAILABLE} FROM read_parquet({files}, union_by_name = true) ORDER BY 1"
        ).fetchall()


DAY_2, DAY_3 = parse_time("2025-03-02"), parse_time("2025-03-03")
WHOLE = [
    ("o1", 5.0, "a@x", 1.0, DAY_2, DAY_2),
    ("o2", 7.0, "b@x", 1.0, DAY_3, DAY_3),
    ("o3", 5.0, "c@x", None, DAY_2, DAY_2),
    ("o4", 5.0, "d@x", 0.0, DAY_2, DAY_2),
]


def test_repaired_rows_of_a_file_come_with_their_own_time_and_only_once(app: App) -> None:
    target = exported(app, repair)
    done = admit(app, target, "typing errors")
    assert (done.done, done.before, done.faults) == (3, 0, {})
    assert kept(app) == WHOLE
    again = admit(app, target, "typing errors")
    assert (again.done, again.before, again.faults, kept(app) == WHOLE) == (0, 3, {}, True)
    files = app.history().files("resolved/Orders")
    with duckdb.connect() as connection:
        told = connection.execute(
            f'SELECT DISTINCT decision, "at", "by", reason FROM read_parquet({[str(path) for path in files]})'
        ).fetchall()
    assert told == [("repaired", NOW, "ann", "typing errors")]


def test_a_repaired_private_value_is_hidden_like_any_other(app: App) -> None:
    admit(app, exported(app, repair), "")
    files = [str(path) for path in app.history().files("Orders")]
    with duckdb.connect() as connection:
        found = dict(connection.execute(f"SELECT order_id, customer FROM read_parquet({files})").fetchall())
    assert found["o1"] == found["o3"] and len(set(found.values())) == 3
    assert app.vault is not None and found["o2"] == app.vault.seek("customer", "C2")


def test_what_is_still_wrong_stays_where_it_is(app: App) -> None:
    def change(row: dict[str, str]) -> None:
        row["net"] = {"o2": "-7", "o3": "x"}.get(row["order_id"], row["net"])

    done = admit(app, exported(app, change), "")
    said = sorted(fault for faults in done.faults.values() for fault in faults)
    assert said == [
        "customer: still as it was",
        "email: another event has it",
        "out of range @ net, got -7.0; allowed: 0 or more",
    ]
    assert (done.done, len(waiting(app)), len(kept(app))) == (0, 3, 1)


def test_a_pushed_row_is_known_from_its_admission(app: App) -> None:
    row = {"order_id": "p1", "customer": "C9", "net": -3, "ordered_at": "2025-05-31T00:00:00Z"}
    with app.journal("test") as journal:
        assert len(app.intake(journal).push("Orders", [row]).faults) == 1
    before = waiting(app)["p1"].id
    app.workspace.compact()
    assert waiting(app)["p1"].id == before  # in the journal or in history, it has one name
    admit(app, exported(app, repair), "")
    assert kept(app)[-1] == ("p1", 3.0, None, None, NOW, NOW)
    assert waiting(app) == {}


@pytest.mark.parametrize("dies", ["announce", "replace"])
def test_a_crash_in_the_middle_leaves_it_to_be_done_again(
    app: App, monkeypatch: pytest.MonkeyPatch, dies: str
) -> None:
    target = exported(app, repair)

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            "icekeel.data.quarantine.Ingested" if dies == "announce" else "icekeel.data.History.replace",
            crash,
        )
        admit(app, target, "")
    assert (len(kept(app)), len(waiting(app))) == (1, 3)
    assert admit(app, target, "").done == 3
    assert kept(app) == WHOLE


def test_the_command_does_it_all_and_counts(app: App) -> None:
    first, out = waiting(app)["o2"].id, str(app.folder / "out.csv")
    told = icekeel(app.folder, "quarantine", "dismiss", "Orders", first, "nosuch", "--reason", "a test")
    assert (told["dismissed"], told["open"], [one["id"] for one in told["faults"]]) == (1, 2, ["nosuch"])
    assert icekeel(app.folder, "quarantine", "export", "Orders", "--out", out)["rows"] == 2
    target = exported(app, repair)
    told = icekeel(app.folder, "quarantine", "admit", "Orders", str(target), "--reason", "typing errors")
    assert (told["repaired"], told["open"], told["faults"]) == (2, 0, [])
    listed = icekeel(app.folder, "quarantine")
    counts = {name: listed[0][name] for name in ("rows", "open", "repaired", "dismissed", "reasons")}
    assert counts == {"rows": 3, "open": 0, "repaired": 2, "dismissed": 1, "reasons": {}}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("a,b\n1,2\n", "missing_column"),
        ("quarantine_id,order_id,nett\nx,1,2\n", "unknown_field"),
        ("quarantine_id,order_id\nx,1\nx,2\n", "twice"),
        ("quarantine_id,order_id,customer,net,email,ordered_at,booked_at\nx,1,C1,2,,,\n", "missing_column"),
        ("quarantine_id,order_id\nx,1,2\n", "ragged"),
        ("quarantine_id,order_id\nx,\xff\n", "unreadable"),
    ],
)
def test_another_file_is_refused(app: App, content: str, code: str) -> None:
    (app.folder / "other.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(SourceError) as caught:
        admit(app, app.folder / "other.csv", "")
    assert caught.value.code == code


def test_history_alone_is_enough_to_list(app: App) -> None:
    assert {one.pushed for one in waiting(app).values()} == {False}
    assert History(app.places.history).manifest().rows("quarantine/Orders") == 3
