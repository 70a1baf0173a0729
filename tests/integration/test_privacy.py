"""Private values reach no file of the state folder, and what was forgotten is found by nobody."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import http.client
import json
import os
import re
import shutil
import sqlite3
import stat
import tempfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import lmdb
import pytest

from icekeel.app import App
from icekeel.core.errors import RequestError, StateError
from icekeel.core.time import DAY, HOUR
from icekeel.data.vault import FOLLOW_S
from icekeel.http import Server
from icekeel.journal import Forgotten, Predicted, Pushed, Quarantined, scan
from icekeel.operations.upkeep.forgetting import receipt_digest
from icekeel.store import FeatureStore
from icekeel.testing.small import (
    PROJECT,
    REQUEST,
    TRAINED_TO,
    keep_up,
    small_world,
    train_small,
    write_small_project,
)

from ..unit.http.conftest import Client
from .commands import call, command, icekeel, run

PLANTED = "Ada Lovelace, 12 St James's Square"
OTHER = "Charles Babbage, 1 Dorset Street"
PRIVATE = (
    PROJECT.replace(
        "    weight: ik.Num = ik.between", "    sender: ik.Id = ik.private()\n    weight: ik.Num = ik.between"
    )
    .replace("    minutes_late: ik.Num", "    sender: ik.Id = ik.private()\n    minutes_late: ik.Num")
    .replace(
        "    delivered_1d = ",
        '    mine_7d = Deliveries.where(sender=Parcel.sender).last("7d").count()\n'
        '    senders_1d = arrived.last("1d").sender.distinct()\n    delivered_1d = ',
    )
    .replace("unit=Parcel.parcel_id", "unit=Parcel.sender")
)
ASKED = {**REQUEST, "sender": PLANTED}


def sender(number: int) -> str:
    return PLANTED if number % 10 == 0 else OTHER if number % 10 == 1 else f"sender {number % 40}"


def write_project(folder: Path) -> None:
    """The small project, in whose files every parcel has a sender, every tenth the planted one."""
    write_small_project(folder, PRIVATE)
    for name in ("deliveries.csv", "questions.csv"):
        head, *lines = (folder / name).read_text().splitlines()
        numbers = [int(re.match(r"p\d+-(\d+)", line)[1]) for line in lines]  # type: ignore[index]
        rows = [f'{line},"{sender(number)}",{name}' for line, number in zip(lines, numbers, strict=True)]
        if (
            name == "deliveries.csv"
        ):  # two rows that break the contract, and an undeclared column with the name
            rows += [f'bad-{at},north,nan,{TRAINED_TO - HOUR},"{PLANTED}","{PLANTED}"' for at in range(2)]
        (folder / name).write_text("\n".join([f"{head},sender,remark", *rows]) + "\n")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ingested, trained, projected; to be copied."""
    folder = tmp_path_factory.mktemp("private")
    write_project(folder)
    train_small(folder)
    keep_up(App(folder, clock=lambda: TRAINED_TO))
    return folder


@pytest.fixture
def client(folder: Path) -> Iterator[Client]:
    app = App(folder, clock=lambda: TRAINED_TO + HOUR)
    token = app.access().create("ann", ("admin",))
    server = Server(app)
    yield Client(server, token, folder)
    server.service.close()


def live(client: Client) -> None:
    """Serve, push, correct, delete, quarantine, ask for features of now and then."""
    assert client.predict(ASKED).status == 200
    assert client.predict({"rows": [ASKED, {**ASKED, "sender": OTHER}]}).status == 200
    assert client.predict({**ASKED, "weight": 99}).status == 422
    assert client.predict({**ASKED, "sender": PLANTED * 100}).status == 422
    assert client.predict(PLANTED).status == 422
    row = {
        "parcel_id": "d1",
        "depot": "north",
        "sender": PLANTED,
        "minutes_late": 3,
        "delivered_at": TRAINED_TO,
    }
    bad = [
        {**row, "minutes_late": "much"},
        {**row, "remark": PLANTED},
        {**row, "sender": {"name": PLANTED}},
        {**row, "sender": PLANTED * 50},
        {**row, "sendr": PLANTED},
        PLANTED,
        [PLANTED],
    ]
    pushed = client.call("POST", "/v1/events/Deliveries", {"rows": [row, *bad], "delete": ["d1"]}).json
    assert (pushed["kept"], pushed["deleted"], len(pushed["quarantined"])) == (1, 1, 7)
    for kind, asked in (("online", ASKED), ("historical", ASKED | {"asked_at": TRAINED_TO})):
        body = {"rows": [asked], "features": ["mine_7d", "senders_1d"]}
        found = client.call("POST", f"/v1/features/late/{kind}", body).json["rows"][0]["features"]
        assert (found["mine_7d"] > 10, found["senders_1d"] > 3) == (True, True)


def contents(state: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of a folder as it is and, where it is of a kind that packs, as it reads."""
    for path in sorted(state.rglob("*")):
        if not path.is_file():
            continue
        raw = path.read_bytes()
        yield str(path), raw
        if path.suffix == ".parquet":
            with duckdb.connect() as connection:
                rows = connection.execute("SELECT * FROM read_parquet(?)", [str(path)]).fetchall()
            yield f"{path} rows", repr(rows).encode()
        elif path.name == "data.mdb":
            yield f"{path} values", b"".join(_lmdb(path.parent))
        elif path.suffix == ".db":
            with closing(sqlite3.connect(path)) as database:
                yield f"{path} rows", "\n".join(database.iterdump()).encode()
        for match in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", raw):
            try:
                yield (
                    f"{path} packed at {match.start()}",
                    zlib.decompressobj().decompress(raw[match.start() :]),
                )
            except zlib.error:
                continue
        if raw[:2] == b"\x1f\x8b":
            yield f"{path} unpacked", gzip.decompress(raw)


def _lmdb(folder: Path) -> Iterator[bytes]:
    """Keys and values of a copy: a process opens an environment once."""
    with tempfile.TemporaryDirectory() as copy:
        shutil.copy(folder / "data.mdb", copy)
        with (
            lmdb.open(copy, readonly=True, lock=False, max_dbs=64) as environment,
            environment.begin() as txn,
        ):
            for name in [bytes(name) for name, _ in txn.cursor()]:
                database = environment.open_db(name, txn, create=False)
                yield from (bytes(key) + bytes(value) for key, value in txn.cursor(database))


def spellings(value: str) -> list[bytes]:
    """Ways in which a text may stand in a file."""
    raw = value.encode()
    ways = [raw, raw.lower(), value.encode("utf-16-le"), json.dumps(value).encode()[1:-1], raw.hex().encode()]
    ways += [
        base64.b64encode(raw)[:-4],
        hashlib.sha256(raw).digest(),
        hashlib.sha256(raw).hexdigest().encode(),
    ]
    ways += [raw[:20], raw[-20:]]
    return [*ways, raw.split(b",")[0]]


def found_in(state: Path, *needles: bytes) -> list[str]:
    """Which files hold any of these, in upper or lower case."""
    wanted = [needle.lower() for needle in needles]
    return [name for name, content in contents(state) if any(one in content.lower() for one in wanted)]


def answers_of(app: App, value: str) -> list[str]:
    """What an operator does who wants to see somebody's answers."""
    assert app.vault is not None
    hidden = app.vault.find("sender", value)
    if hidden is None:
        return []
    return [one.id for one in scan(app.places.journal, kinds=Predicted) if one.request["sender"] == hidden]


def test_no_private_value_reaches_any_file_and_forgetting_leaves_a_name_of_nobody(
    client: Client, folder: Path
) -> None:
    live(client)
    app = client.server.service.app
    assert app.vault is not None
    keep_up(App(folder, clock=lambda: TRAINED_TO + HOUR))
    assert App(folder, clock=lambda: TRAINED_TO + 2 * HOUR).audit("late").counts == {}
    train_again(folder)
    state = folder / ".icekeel"
    (state / "log.txt").write_text("nothing here")
    hidden = app.vault.find("sender", PLANTED)
    key = (state / "vault.key").read_bytes()
    mac = hmac.digest(key, f"sender\0{PLANTED}".encode(), "sha256")
    assert hidden is not None

    assert found_in(state, *spellings(PLANTED), *spellings(OTHER)) == []
    kinds = {Path(name.split()[0]).suffix for name in found_in(state, hidden.encode())}
    assert {".jnl", ".parquet", ".mdb", ".db"} <= kinds
    assert len(answers_of(app, PLANTED)) == 2
    assert found_in(state, mac)

    got = client.call(
        "POST", "/v1/forget", {"entity": "sender", "value": PLANTED, "reason": "Art. 17, ticket 7"}
    )
    assert (got.status, got.json["forgotten"]) == (200, True)

    assert found_in(state, mac, mac.hex().encode(), base64.b64encode(mac)) == []
    assert found_in(state, *spellings(PLANTED)) == []
    assert answers_of(app, PLANTED) == []
    assert len(answers_of(app, OTHER)) == 1
    assert any(name.endswith(".jnl") for name in found_in(state, hidden.encode()))  # of nobody
    receipt = got.json["receipt"]
    found = receipt["found"]
    assert receipt["pseudonym"] == hidden
    assert (receipt["by"], receipt["reason"]) == ("token ann", "Art. 17, ticket 7")
    assert (found["answers/late"], found["quarantine/Deliveries"]) == (2, 5)
    assert found["Deliveries"] > 100
    assert found["questions/late"] > 100  # in the snapshot of the version
    assert found["journal"] > 2
    assert any(one.startswith("deliveries.csv") for one in receipt["not_held"])
    (kept,) = app.vault.receipts(finished=True)
    assert kept.digest == receipt_digest(kept) == receipt["digest"]
    (told,) = scan(app.places.journal, kinds=Forgotten)
    assert (told.id, told.entity, told.pseudonym) == (kept.id, "sender", hidden)

    again = client.call("POST", "/v1/forget", {"entity": "sender", "value": PLANTED, "reason": "once more"})
    assert (again.status, again.json) == (200, {"forgotten": False, "receipt": None})
    with FeatureStore(app) as store:
        learnt = store.get_training_set("late", snapshot="late-1")
        assert (
            len(learnt.filter(f"sender = '{hidden}'")) == found["questions/late"]
        )  # by nobody's pseudonym, as then
    asyncio.run(asyncio.sleep(FOLLOW_S))
    assert client.predict(ASKED).status == 200
    (fresh,) = answers_of(app, PLANTED)
    (answer,) = [one for one in scan(app.places.journal, kinds=Predicted) if one.id == fresh]
    assert answer.features["mine_7d"] == 0  # somebody new
    assert answer.unit == answer.request["sender"] != hidden


def train_again(folder: Path) -> None:
    app = App(folder, clock=lambda: TRAINED_TO + DAY)
    registry = app.registry()
    from icekeel.operations.workshop.workshop import Order

    app.workshop(registry).train(Order("late", TRAINED_TO + DAY, rung="lightgbm"), lambda line: None)
    registry.close()


def test_pseudonyms_join_as_values_do(client: Client, folder: Path) -> None:
    """The features of the private project are those of the same project in which nothing is private."""
    plain = folder.parent / "plain"
    write_project(plain)
    (plain / "project.py").write_text(PRIVATE.replace("ik.Id = ik.private()", "ik.Id"))
    train_small(plain)
    keep_up(App(plain, clock=lambda: TRAINED_TO))
    other = Server(App(plain, clock=lambda: TRAINED_TO + HOUR))
    clear = Client(other, other.service.access.create("ann", ("admin",)), plain)
    for asked in (ASKED, {**ASKED, "sender": OTHER}, {**ASKED, "sender": "nobody"}):
        ours, theirs = client.predict(asked), clear.predict(asked)
        assert (ours.status, ours.json["prediction"]) == (200, theirs.json["prediction"])
        entries = [next(iter(reversed(one.journaled(Predicted)))) for one in (client, clear)]
        assert entries[0].features == entries[1].features
    other.service.close()


def test_faults_echo_no_private_value(client: Client) -> None:
    too_long = PLANTED * 100
    for body in ({**ASKED, "sender": too_long}, {**ASKED, "sender": [PLANTED]}, {**ASKED, "sender": 17}):
        got = client.predict(body)
        (fault,) = got.json["faults"]
        assert (fault["code"], fault["where"], "got" in fault) == ("wrong_type", "sender", False)


def test_rows_set_aside_keep_what_is_not_private(client: Client) -> None:
    live(client)
    app = client.server.service.app
    assert app.vault is not None
    (aside,) = scan(app.places.journal, kinds=Quarantined)
    hidden = app.vault.find("sender", PLANTED)
    assert aside.rows[0].row["minutes_late"] == "much"
    assert aside.rows[0].row["sender"] == hidden
    assert aside.rows[1].row["not kept"] == ["remark"]
    assert aside.rows[5].row == {"not kept": "str"}
    (pushed,) = scan(app.places.journal, kinds=Pushed)
    assert pushed.rows[0]["sender"] == hidden


def test_a_crash_in_the_middle_of_forgetting_is_mended_by_the_next(client: Client) -> None:
    live(client)
    app = client.server.service.app
    assert app.vault is not None
    app.vault.forget("sender", PLANTED, identifier="r1", at=1, by="ann", reason="died here")
    assert app.forget("sender", "nobody of this name", by="bob", reason="another") is None
    (receipt,) = app.vault.receipts(finished=True)
    assert (receipt.id, receipt.by, receipt.found["answers/late"]) == ("r1", "ann", 2)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"entity": "sendr", "value": "x", "reason": "y"}, "unknown_entity"),
        ({"entity": "sender", "value": "x", "reason": " "}, "no_reason"),
        ({"entity": "sender", "value": 3, "reason": "y"}, "bad_forget"),
        ({"entity": "sender", "value": "x"}, "bad_forget"),
        ([], "bad_forget"),
    ],
)
def test_a_faulty_wish_is_told_what_is_wrong(client: Client, body: Any, code: str) -> None:
    got = client.call("POST", "/v1/forget", body)
    assert (got.status, got.codes) == (422, [code])


def test_a_field_does_not_become_private_over_values_in_the_clear(folder: Path) -> None:
    project = (folder / "project.py").read_text()
    (folder / "project.py").write_text(project.replace("parcel_id: ik.Id", "parcel_id: ik.Id = ik.private()"))
    with pytest.raises(StateError) as caught:
        App(folder).vault  # noqa: B018
    assert {(fault.code, fault.where) for fault in caught.value.faults} == {
        ("other_privacy", "Deliveries.parcel_id"),
        ("other_privacy", "answers/late.parcel_id"),  # the declared questions, which a snapshot holds
    }
    (folder / "project.py").write_text(
        project.replace("ik.Id = ik.private()", 'ik.Id = ik.private("person")')
    )
    with pytest.raises(StateError):
        App(folder).vault  # noqa: B018


def ask(folder: Path, port: int, token: str) -> str:
    """The pseudonym under which a running server journals the planted sender."""
    answer = json.loads(call(port, token, "/v1/predict/late", ASKED)[1])
    entries = scan(folder / ".icekeel" / "journal", kinds=Predicted)
    return str(next(one for one in entries if one.id == answer["prediction_id"]).request["sender"])


def test_the_command_forgets_while_the_server_runs(folder: Path) -> None:
    token = App(folder).access().create("t", ("predict",))
    with command(folder, "serve", "--port", "0", now=TRAINED_TO + HOUR) as (_, said):
        before = ask(folder, said["listening"], token)
        assert ask(folder, said["listening"], token) == before
        done = icekeel(folder, "forget", f"sender={PLANTED}", "--reason", "asked", "--by", "ann")
        assert done["receipt"]["pseudonym"] == before
        assert ask(folder, said["listening"], token) != before
    (listed,) = icekeel(folder, "forget", "--receipts")
    assert (listed["by"], listed["pseudonym"]) == ("ann", before)
    piped = run(folder, "forget", "sender=-", "--reason", "x", given=f"{OTHER}\n")
    assert piped.returncode == 0
    assert "stands for nobody now" in piped.stderr + piped.stdout
    assert OTHER not in piped.stderr + piped.stdout


def test_reading_features_makes_no_entity(client: Client) -> None:
    app = client.server.service.app
    assert app.vault is not None
    stranger = {**ASKED, "sender": "a stranger"}
    for kind, asked in (("online", stranger), ("historical", stranger | {"asked_at": TRAINED_TO})):
        body = {"rows": [asked, asked], "features": ["mine_7d"]}
        found = client.call("POST", f"/v1/features/late/{kind}", body).json["rows"]
        assert [one["features"]["mine_7d"] for one in found] == [0, 0]
    assert app.vault.find("sender", "a stranger") is None
    with pytest.raises(RequestError):
        app.forget("depot", "north", by="ann", reason="not private")


def test_questions_brought_along_keep_their_own_values(folder: Path) -> None:
    from icekeel.store import FeatureStore

    with FeatureStore(App(folder, clock=lambda: TRAINED_TO + HOUR)) as store:
        table = [ASKED | {"at": TRAINED_TO}, {**ASKED, "sender": "a stranger", "at": TRAINED_TO}]
        found = store.get_historical_features("late", table, asked_at="at", features=["mine_7d"])
        assert [row["sender"] for row in found] == [PLANTED, "a stranger"]
        assert found[0]["feature.mine_7d"] > found[1]["feature.mine_7d"] == 0
        path = folder / "questions.csv"
        relation = store.get_historical_features("late", path, asked_at="asked_at", features=["mine_7d"])
        assert (PLANTED,) in relation.select("sender").fetchall()
        assert (
            store.push_events("Deliveries", [{**small_world(1).deliveries[0], "sender": PLANTED}]).kept == 1
        )


def test_who_is_no_more_in_the_project_can_still_be_forgotten(folder: Path) -> None:
    """A field that leaves the project leaves its column in history."""
    assert App(folder).vault is not None
    (folder / "project.py").write_text(PROJECT)
    app = App(folder, clock=lambda: TRAINED_TO)
    assert app.vault is not None
    hidden = app.vault.find("sender", PLANTED)
    receipt = app.forget("sender", PLANTED, by="ann", reason="asked")
    assert receipt is not None
    assert receipt.pseudonym == hidden
    assert receipt.found["Deliveries"] > 100
    (folder / "project.py").write_text(PRIVATE)
    again = App(folder)
    assert again.vault is not None
    assert again.vault.find("sender", PLANTED) is None
    (folder / "project.py").write_text(PRIVATE.replace("sender: ik.Id = ik.private()", "sender: ik.Id"))
    with pytest.raises(StateError, match=r"Deliveries\.sender"):
        App(folder).vault  # noqa: B018


KEYED = PRIVATE.replace("parcel_id: ik.Id", 'parcel_id: ik.Id = ik.private("parcel")')


def test_outcomes_and_questions_by_a_private_key_go_by_its_value(tmp_path: Path) -> None:
    write_project(tmp_path)
    (tmp_path / "project.py").write_text(KEYED)
    train_small(tmp_path)
    keep_up(App(tmp_path, clock=lambda: TRAINED_TO))
    app = App(tmp_path, clock=lambda: TRAINED_TO + HOUR)
    server = Server(app)
    client = Client(server, server.service.access.create("ann", ("admin",)), tmp_path)
    parcel = "parcel of Ada Lovelace"
    asked = {**ASKED, "parcel_id": parcel}
    got = client.predict(asked)
    assert got.status == 200, got.json
    identifier = got.json["prediction_id"]
    row = {"depot": "north", "sender": PLANTED, "minutes_late": 3, "delivered_at": TRAINED_TO + HOUR}
    rows = [
        {"prediction_id": identifier, **row},
        {"prediction_id": identifier, "parcel_id": parcel, **row},
        {"prediction_id": identifier, "parcel_id": f"{parcel} not", **row},
        {"prediction_id": "0" * 28, "parcel_id": parcel, **row},
        {"prediction_id": identifier, **row, "minutes_late": "much"},
        {"parcel_id": parcel, **row, "minutes_late": "much"},
        parcel,
        {"prediction_id": parcel, **row},
    ]
    got = client.call(
        "POST", "/v1/outcomes", {"rows": rows, "delete": [{"prediction_id": "0" * 28, "x": parcel}]}
    )
    assert got.status == 200, got.json
    codes = [one["faults"][0]["code"] for one in got.json["quarantined"]]
    assert codes == [
        *("other_key", "unknown_prediction", "wrong_type", "wrong_type", "not_an_object"),
        *("unknown_prediction", "unknown_prediction"),
    ]
    assert app.vault is not None
    hidden = app.vault.find("parcel", parcel)
    pushed = [row for record in scan(app.places.journal, kinds=Pushed) for row in record.rows]
    assert {row["parcel_id"] for row in pushed} == {hidden}
    assert app.vault.find("parcel", str(hidden)) is None
    aside = [row.row for record in scan(app.places.journal, kinds=Quarantined) for row in record.rows]
    assert [row["parcel_id"] for row in aside if "parcel_id" in row].count(hidden) == 3
    got = client.call("POST", "/v1/outcomes", {"delete": [{"prediction_id": identifier}]})
    assert (got.status, got.json["deleted"]) == (200, 1)
    newest = list(scan(app.places.journal, kinds=Pushed))[-1].rows[0]
    assert (newest["parcel_id"], newest["_deleted"]) == (hidden, 1.0)

    path = f"/v1/answers?key={quote(parcel)}"
    for asking in (path, f"/v1/answers?unit={quote(PLANTED)}&model=late"):
        found = client.call("GET", asking).json["answers"]
        assert [one["id"] for one in found] == [identifier]
    assert found_in(tmp_path / ".icekeel", *spellings(parcel), *spellings(PLANTED)) == []
    assert (
        client.call("POST", "/v1/forget", {"entity": "parcel", "value": parcel, "reason": "x"}).status == 200
    )
    assert client.call("GET", path).json["answers"] == []
    server.service.close()


@pytest.mark.parametrize("first", ["access", "registry", "journal", "history", "vault"])
def test_the_state_folder_is_its_owners_whatever_makes_it(tmp_path: Path, first: str) -> None:
    write_project(tmp_path)
    before = os.umask(0)
    try:
        app = App(tmp_path, clock=lambda: TRAINED_TO)
        if first == "access":
            app.access().create("ann", ("admin",))
        elif first == "history":
            with app.history().adding():
                pass
        elif (
            made := app.vault if first == "vault" else getattr(app, first)(*["x"] * (first == "journal"))
        ) is not None:
            made.close()
    finally:
        os.umask(before)
    state = tmp_path / ".icekeel"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    for path in state.rglob("*"):
        if path.name.startswith(("vault", "tokens")):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_token_is_kept_or_logged(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    client.call("GET", "/v1/status", authorization="Bearer wrong-token-of-somebody")
    client.server.service.intake.push = None  # type: ignore[assignment,method-assign]
    assert client.call("POST", "/v1/events/Scans", {"rows": [{}]}).status == 500
    assert client.token not in caplog.text
    assert "wrong-token" not in caplog.text
    assert PLANTED not in caplog.text
    assert found_in(client.folder, client.token.encode()) == []


def test_two_servers_killed_under_load_agree_on_everybody_they_met(folder: Path) -> None:
    """Every pseudonym in the journal is the one that the vault has for the value that was sent."""
    token = App(folder).access().create("t", ("predict",))
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def load(port: int, name: str, started: threading.Event) -> None:
        with (
            closing(http.client.HTTPConnection("127.0.0.1", port)) as connection,
            suppress(OSError, HTTPException),
        ):
            for number in range(100_000):
                body = {**ASKED, "parcel_id": f"{name}:{number}", "sender": f"new sender {number}"}
                connection.request("POST", "/v1/predict/late", json.dumps(body), headers)
                assert connection.getresponse().read()
                if number == 20:
                    started.set()

    with (
        command(folder, "serve", "--port", "0", now=TRAINED_TO + HOUR) as one,
        command(folder, "serve", "--port", "0", now=TRAINED_TO + HOUR) as two,
    ):
        begun = [threading.Event(), threading.Event()]
        callers = [
            threading.Thread(target=load, args=(said["listening"], name, started))
            for (_, said), name, started in zip((one, two), "ab", begun, strict=True)
        ]
        for caller in callers:
            caller.start()
        assert all(started.wait(60) for started in begun)
        for process, _ in (one, two):
            process.kill()
        for caller in callers:
            caller.join()
    vault = App(folder).vault
    assert vault is not None
    found: dict[str, set[str]] = {}
    for entry in scan(folder / ".icekeel" / "journal", kinds=Predicted):
        number = entry.key.partition(":")[2]
        assert entry.request["sender"] == vault.find("sender", f"new sender {number}")
        found.setdefault(number, set()).add(entry.key[0])
    assert len(found) > 20
    assert {"a", "b"} in found.values()
    vault.close()


def test_a_private_unit_that_the_project_assigns_is_named_nowhere(folder: Path) -> None:
    text = (folder / "project.py").read_text()
    forced = text.replace(
        "split=True", f"split=True, forced={{{PLANTED!r}: 'challenger', {OTHER!r}: 'champion'}}"
    )
    assert forced != text
    (folder / "project.py").write_text(forced)
    train_small(folder, baseline=True)
    app = App(folder, clock=lambda: TRAINED_TO)
    registry, online = app.registry(), app.online(readonly=True)
    with app.journal("serve") as journal:
        answerer = app.answerers(registry, journal, online)["late"]
        said = [answerer.answer({**ASKED, "sender": name}).arm for name in (PLANTED, OTHER)]
    registry.close()
    assert said == ["challenger", "champion"]
    records = [one for one in scan(app.places.journal, kinds=Predicted)][-2:]
    assert {one.phase for one in records} == {"forced"}
    assert not {PLANTED, OTHER} & {one.unit for one in records}
    journaled = b"".join(path.read_bytes() for path in app.places.journal.iterdir())
    assert PLANTED.encode() not in journaled
