from __future__ import annotations

import itertools
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icekeel.core.errors import RegistryError, StateError
from icekeel.core.ids import digest
from icekeel.registry import Alert, AlertChange, Decision, Json, Registry, Version, tables
from icekeel.registry.records import LONGEST_MUTE

PASSED: list[Json] = [{"name": "parity", "passed": True}, {"name": "latency", "passed": True}]
FAILED: list[Json] = [{"name": "parity", "passed": False}, {"name": "latency", "passed": True}]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


@pytest.fixture
def registry(place: Path) -> Iterator[Registry]:
    opened = Registry(place, clock=lambda: 7)
    yield opened
    opened.close()


def add(
    registry: Registry, content: str = "a", *, gates: list[Json] = PASSED, model: str = "late"
) -> Version:
    return registry.register(
        model,
        digest(content.encode()),
        snapshot="s",
        code="c",
        features="f",
        metrics={"auc": np.float64(0.75)},
        gates=gates,
        ladder={},
        trained_from=1,
        trained_to=2,
        reason="first",
    )


def champion(registry: Registry, version: Version) -> None:
    registry.set_alias("late", "champion", version.name, reason="better", by="keeper")


def code(error: pytest.ExceptionInfo[RegistryError]) -> str:
    return error.value.code


def test_versions_count_up_by_model_and_one_digest_is_one_version(registry: Registry) -> None:
    first, second, again = add(registry, "a"), add(registry, "b"), add(registry, "a")
    other = add(registry, "a", model="price")
    assert [first.name, second.name, other.name] == ["late-1", "late-2", "price-1"]
    assert again == first == registry.version("late-1")
    assert registry.versions("late") == [first, second]
    assert registry.versions() == [first, second, other]
    assert (first.at, first.metrics) == (7, {"auc": 0.75})


def test_an_unknown_version_names_the_nearest(registry: Registry) -> None:
    add(registry)
    with pytest.raises(RegistryError) as error:
        registry.version("late-11")
    assert (code(error), error.value.faults[0].hint) == ("unknown_version", 'did you mean "late-1"?')


def test_a_version_that_failed_its_gates_needs_an_override(registry: Registry) -> None:
    failed, unchecked = add(registry, "a", gates=FAILED), add(registry, "b", gates=[])
    for version, where in ((failed, "late-1.parity"), (unchecked, "late-2.gates")):
        with pytest.raises(RegistryError) as error:
            champion(registry, version)
        assert [(fault.code, fault.where) for fault in error.value.faults] == [("gate_failed", where)]
    assert registry.history("late") == []
    registry.set_alias("late", "champion", failed.name, reason="r", by="ann", override="the old one is worse")
    assert [change.override for change in registry.history("late")] == ["the old one is worse"]


def test_all_misfits_of_an_alias_are_reported_at_once(registry: Registry) -> None:
    other = add(registry, gates=FAILED, model="price")
    with pytest.raises(RegistryError) as error:
        registry.set_alias("late", "champion", other.name, share=1.5, reason="r", by="ann")
    assert [fault.code for fault in error.value.faults] == ["wrong_model", "bad_share", "gate_failed"]


def test_an_alias_keeps_its_salt_while_its_share_grows(registry: Registry) -> None:
    first, second = add(registry, "a"), add(registry, "b")

    def challenge(version: Version, share: float, at: int) -> str:
        alias = registry.set_alias(
            "late", "challenger", version.name, share=share, reason="ramp", by="keeper", at=at
        )
        assert registry.aliases("late") == {"challenger": alias}
        assert (alias.version, alias.share, alias.since) == (version.name, share, at)
        return alias.salt

    salts = [challenge(first, 0.1, 1), challenge(first, 0.5, 2), challenge(second, 0.5, 3)]
    assert salts[0] == salts[1] != salts[2]
    assert challenge(first, 0.1, 4) not in salts


def test_setting_what_is_set_writes_no_history(registry: Registry) -> None:
    version = add(registry)
    champion(registry, version)
    champion(registry, version)
    assert len(registry.history("late")) == 1


def test_a_dropped_alias_is_gone_but_not_its_history(registry: Registry) -> None:
    version = add(registry)
    registry.set_alias("late", "shadow:1", version.name, reason="look", by="keeper", evidence={"n": 3})
    registry.drop_alias("late", "shadow:1", reason="worse", by="keeper", at=9)
    assert registry.aliases("late") == {}
    changes = [(change.action, change.version, change.at) for change in registry.history("late")]
    assert changes == [("set", "late-1", 7), ("drop", "late-1", 9)]
    assert registry.history("late")[0].evidence == {"n": 3}
    with pytest.raises(RegistryError) as error:
        registry.drop_alias("late", "shadow:1", reason="again", by="keeper")
    assert code(error) == "unknown_alias"


def test_a_champion_is_not_dropped(registry: Registry) -> None:
    champion(registry, add(registry))
    with pytest.raises(RegistryError) as error:
        registry.drop_alias("late", "champion", reason="r", by="ann")
    assert code(error) == "champion_stays"


def test_each_rollback_goes_one_further_back(registry: Registry) -> None:
    first, second, third = (add(registry, content) for content in "abc")
    for version in (first, second, third):
        champion(registry, version)
    assert registry.previous_champion("late") == second.name
    assert registry.rollback("late", reason="errors", by="keeper") == second
    assert registry.previous_champion("late") == first.name
    assert registry.rollback("late", reason="errors", by="ann") == first
    assert registry.previous_champion("late") is None
    with pytest.raises(RegistryError) as error:
        registry.rollback("late", reason="errors", by="ann")
    assert code(error) == "no_previous"
    champion(registry, third)
    assert registry.rollback("late", reason="errors", by="ann") == first
    assert registry.aliases("late")["champion"].version == first.name


def test_of_two_roll_backs_at_once_one_goes_back(registry: Registry) -> None:
    first, second, third = (add(registry, content) for content in "abc")
    for version in (first, second, third):
        champion(registry, version)
    expected = registry.champion("late").name  # as both saw it
    assert registry.rollback("late", expected=expected, reason="errors", by="ann") == second
    with pytest.raises(RegistryError) as error:
        registry.rollback("late", expected=expected, reason="errors", by="ben")
    fault = error.value.faults[0]
    assert (fault.code, fault.got, fault.allowed) == ("changed", second.name, third.name)
    assert registry.champion("late") == second


def test_without_a_champion_there_is_nothing_to_roll_back(registry: Registry) -> None:
    with pytest.raises(RegistryError) as error:
        registry.rollback("late", reason="errors", by="ann")
    assert code(error) == "unknown_alias"


def test_what_is_done_atomically_is_kept_whole_or_not_at_all(registry: Registry, place: Path) -> None:
    version = add(registry)
    reader = Registry(place, clock=lambda: 0)
    before = reader.changed()
    with pytest.raises(ZeroDivisionError), registry.atomically():
        champion(registry, version)
        assert registry.aliases("late")["champion"].version == version.name
        assert reader.aliases("late") == {}
        raise ZeroDivisionError
    assert (reader.aliases("late"), reader.changed()) == ({}, before)
    with registry.atomically():
        champion(registry, version)
        registry.record(Decision(id="d", at=1, model="late", kind="promote", version="late-1", reason="r"))
    assert (len(reader.history("late")), len(reader.decisions()), reader.changed()) == (1, 1, before + 2)
    reader.close()


def test_decisions_are_kept_once_and_found_by_model_and_time(registry: Registry) -> None:
    def decision(id: str, at: int, model: str = "late") -> Decision:
        return Decision(id=id, at=at, model=model, kind="block", version="", reason="r", evidence={"x": [1]})

    kept = [decision("a", 2), decision("b", 1), decision("c", 3, "price")]
    assert [registry.record(each) for each in (*kept, decision("a", 9))] == [True, True, True, False]
    assert registry.decisions() == [kept[1], kept[0], kept[2]]
    assert registry.decisions("late", since=2) == [kept[0]]


def test_an_alert_is_open_until_it_is_resolved(registry: Registry) -> None:
    alert = Alert(id="a", at=1, model="late", cause="weather is late", todo="look at the feed", cost=5.0)
    assert registry.record(alert)
    assert registry.alerts("late", open_only=True) == [alert]
    registry.resolve("a", resolution="feed restarted", at=5)
    registry.resolve("a", resolution="again", at=6)
    assert registry.alerts(open_only=True) == []
    assert [(a.resolved_at, a.resolution) for a in registry.alerts()] == [(5, "feed restarted")]
    with pytest.raises(RegistryError) as error:
        registry.resolve("b", resolution="r")
    assert code(error) == "unknown_alert"


def test_what_people_do_to_a_resolved_alert_is_refused(registry: Registry) -> None:
    registry.record(Alert(id="a", at=1, model="late", cause="weather is late", todo="look at the feed"))
    registry.resolve("a", resolution="feed restarted", at=5)
    with pytest.raises(RegistryError) as error:
        registry.change_alert(AlertChange(alert="a", state="acknowledged", by="ann", reason="mine", at=6))
    assert code(error) == "already_resolved"
    assert [change.by for change in registry.alert("a").changes] == ["keeper"]


@pytest.mark.parametrize("until", [None, 9, 10, 10 + LONGEST_MUTE + 1, 10**23])
def test_a_mute_ends_and_within_a_year(registry: Registry, until: int | None) -> None:
    registry.record(Alert(id="a", at=1, model="late", cause="weather is late", todo="look at the feed"))
    with pytest.raises(RegistryError) as error:
        registry.change_alert(AlertChange(alert="a", state="muted", by="ann", reason="r", at=10, until=until))
    assert code(error) == "bad_until"


def test_a_run_ends_once(registry: Registry) -> None:
    run = registry.start_run("retrain", details={"model": "late"}, at=1)
    assert [(r.status, r.finished_at) for r in registry.runs()] == [("running", None)]
    registry.finish_run(run, "done", at=2)
    found = registry.runs("retrain")[0]
    assert (found.id, found.status, found.finished_at, found.details) == (run, "done", 2, {"model": "late"})
    assert registry.runs("audit") == []
    with pytest.raises(RegistryError) as error:
        registry.finish_run(run, "failed")
    assert code(error) == "unknown_run"


def test_changed_tells_of_writes_through_any_connection(registry: Registry, place: Path) -> None:
    other = Registry(place, clock=lambda: 0)
    before = registry.changed()
    assert registry.changed() == before
    add(other)
    assert registry.changed() == other.changed() > before
    seen = registry.changed()
    other.finish_run(other.start_run("compact"), "done")  # which whoever shows versions need not follow
    assert registry.changed() == seen
    other.close()


def test_another_format_is_refused(registry: Registry, place: Path) -> None:
    registry.changed()
    raw = sqlite3.connect(place)
    raw.execute("UPDATE registry SET format = 99")
    raw.commit()
    raw.close()
    with pytest.raises(StateError) as caught:
        Registry(place, clock=lambda: 0).changed()
    assert (caught.value.code, caught.value.faults[0].got) == ("bad_format", "99")


FIRST = Path(__file__).with_name("registry-1.sql").read_text()


def raw(place: Path, script: str) -> None:
    connection = sqlite3.connect(place)
    connection.executescript(script)
    connection.close()


def test_a_registry_of_the_first_format_is_taken_over_whole(place: Path) -> None:
    raw(place, FIRST)
    registry = Registry(place, clock=lambda: 9)
    first, second = registry.versions()
    assert (first.by, first.lineage, first.definitions, first.metrics) == ("", {}, {}, {"auc": 0.75})
    assert registry.changed() == 5  # of which nothing is new
    assert registry.aliases("late")["champion"].version == second.name
    assert [(name, one.override) for name, [one] in registry.overrides().items()] == [("late-2", "must")]
    third = add(registry)
    assert (third.number, registry.previous_champion("late")) == (3, first.name)
    registry.close()
    again = Registry(place, clock=lambda: 9)
    assert [version.name for version in again.versions()] == ["late-1", "late-2", "late-3"]
    again.close()
    with pytest.raises(sqlite3.IntegrityError, match="only ever added to"):
        raw(place, "DELETE FROM versions")


def test_two_processes_take_one_registry_over(place: Path) -> None:
    raw(place, FIRST)
    assert run_at_once("registry.changed()", place, "xyz") == [0, 0, 0]
    registry = Registry(place, clock=lambda: 0)
    assert (registry.changed(), len(registry.versions())) == (5, 2)
    registry.close()


def test_a_crash_while_a_registry_is_taken_over_leaves_the_first_format(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw(place, FIRST)
    with monkeypatch.context() as patch:

        def crash(connection: object) -> None:
            raise ZeroDivisionError

        patch.setattr(tables, "_only_added_to", crash)
        broken = Registry(place, clock=lambda: 0)
        with pytest.raises(ZeroDivisionError):
            broken.changed()
        broken.close()
    connection = sqlite3.connect(place)
    assert connection.execute("SELECT * FROM registry").fetchall() == [(1, 5)]
    assert len(connection.execute("SELECT * FROM versions").description) == 14
    connection.close()
    registry = Registry(place, clock=lambda: 0)
    assert len(registry.versions()) == 2
    registry.close()


def test_a_crash_while_a_registry_is_made_leaves_none(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(connection: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(tables, "_only_added_to", crash)
        broken = Registry(place, clock=lambda: 0)
        with pytest.raises(ZeroDivisionError):
            broken.changed()
        broken.close()
    connection = sqlite3.connect(place)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    connection.close()
    registry = Registry(place, clock=lambda: 0)
    assert registry.changed() == 0
    registry.close()


@pytest.mark.parametrize("table", ["versions", "alias_changes", "decisions"])
@pytest.mark.parametrize("what", ["UPDATE {} SET reason = 'another'", "DELETE FROM {}"])
def test_what_was_written_is_neither_changed_nor_removed(
    registry: Registry, place: Path, table: str, what: str
) -> None:
    champion(registry, add(registry))
    registry.record(Decision(id="d", at=1, model="late", kind="promote", version="late-1", reason="r"))
    with pytest.raises(sqlite3.IntegrityError, match=f"{table} is only ever added to"):
        raw(place, what.format(table))


def test_a_change_of_what_serves_needs_a_reason(registry: Registry) -> None:
    first, second = add(registry, "a"), add(registry, "b", gates=FAILED)
    champion(registry, first)
    for attempt in (
        lambda: registry.set_alias("late", "champion", second.name, reason=" ", by="ann", override="must"),
        lambda: registry.rollback("late", reason="", by="ann"),
    ):
        with pytest.raises(RegistryError) as error:
            attempt()
        assert code(error) == "no_reason"
    with pytest.raises(RegistryError) as error:
        registry.set_alias("late", "champion", second.name, reason="r", by="ann", override=" \n")
    assert code(error) == "gate_failed"
    assert len(registry.history("late")) == 1


def test_an_override_is_told_of_for_ever(registry: Registry) -> None:
    failed, sound = add(registry, "a", gates=FAILED), add(registry, "b")
    registry.set_alias("late", "champion", failed.name, reason="r", by="ann", override="a holiday")
    champion(registry, sound)
    registry.rollback("late", reason="errors", by="keeper")
    champion(registry, sound)
    (told,) = registry.overrides()[failed.name]
    assert (told.by, told.override, told.alias) == ("ann", "a holiday", "champion")
    assert sound.name not in registry.overrides()


def test_who_made_a_version_and_from_what_is_kept(registry: Registry) -> None:
    defined = {"x": {"kind": "num", "digest": "0", "expression": "Q.x"}}
    given: dict[str, Any] = {"by": "ann", "lineage": {"commit": "c0"}, "definitions": defined}
    made = registry.register(
        "late", "d", snapshot="s", code="c", features="f", metrics={}, gates=[], ladder={}, trained_from=1,
        trained_to=2, reason="r", **given,
    )  # fmt: skip
    assert registry.version(made.name) == made
    assert (made.by, made.lineage, made.definitions) == tuple(given.values())


def unreadable(registry: Registry) -> str:
    with pytest.raises(StateError) as caught:
        registry.changed()
    assert caught.value.code == "registry_unreadable"
    return caught.value.faults[0].got


def test_a_file_that_is_taken_away_is_not_made_anew_and_one_put_back_is_read(
    registry: Registry, place: Path
) -> None:
    add(registry)
    registry.close()  # so that all of it is in the one file
    registry.changed()
    away = place.with_name("away.db")
    place.rename(away)
    assert unreadable(registry) == "it is gone"
    assert not place.exists()
    place.write_bytes(away.read_bytes())
    assert [version.number for version in registry.versions()] == [1]


def test_a_damaged_file_is_a_fault_until_it_is_mended(registry: Registry, place: Path) -> None:
    add(registry)
    registry.close()
    sound = place.read_bytes()
    place.write_bytes(b"no database at all" * 1_000)
    assert "not a database" in unreadable(registry)
    with pytest.raises(StateError):
        add(registry, "b")
    place.write_bytes(sound)
    assert [version.number for version in registry.versions()] == [1]


def test_a_lock_is_waited_for_and_then_a_fault(
    registry: Registry, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(registry)
    registry.close()
    monkeypatch.setattr(tables, "BUSY_TIMEOUT_S", 0.05)
    other = sqlite3.connect(place, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert [version.number for version in registry.versions()] == [1]  # readers do not wait
    with pytest.raises(StateError) as caught:
        add(registry, "b")
    assert (caught.value.code, caught.value.faults[0].got) == ("registry_unreadable", "database is locked")
    other.execute("COMMIT")
    assert add(registry, "b").number == 2
    other.close()


def test_threads_write_in_turn(registry: Registry) -> None:
    threads = [threading.Thread(target=add, args=(registry, str(n))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [version.number for version in registry.versions("late")] == list(range(1, 9))


START = """
import os, sys
from icekeel.registry import Registry
registry = Registry(sys.argv[1], clock=lambda: 0)
print("ready", flush=True)
sys.stdin.readline()
"""
PROMOTE = """
for turn in range(20):
    for version in ("late-1", "late-2"):
        registry.set_alias("late", "champion", version, reason=str(turn), by=sys.argv[2])
"""
CRASH = """
with registry.atomically():
    registry.set_alias("late", "champion", "late-2", reason="r", by="b")
    os._exit(1)
"""


def process(script: str, place: Path, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", START + script, str(place), name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def run_at_once(script: str, place: Path, names: str) -> list[int]:
    """Exit codes of processes that open one registry together and then run the script together."""
    processes = [process(script, place, name) for name in names]
    for each in processes:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in processes:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    for each in processes:
        each.communicate(timeout=60)
    return [each.returncode for each in processes]


def test_two_processes_promote_at_once_and_no_line_of_history_is_lost(
    registry: Registry, place: Path
) -> None:
    for content in "ab":
        add(registry, content)
    assert run_at_once(PROMOTE, place, "xy") == [0, 0]
    history = registry.history("late")
    assert {change.by for change in history} == {"x", "y"}
    assert all(before.version != after.version for before, after in itertools.pairwise(history))
    assert registry.aliases("late")["champion"].version == history[-1].version
    assert len({change.salt for change in history}) == len(history)


def test_two_processes_make_one_registry(place: Path) -> None:
    assert run_at_once("", place, "xyz") == [0, 0, 0]
    registry = Registry(place, clock=lambda: 0)
    assert registry.changed() == 0
    registry.close()


def test_a_crash_between_two_writes_leaves_neither(registry: Registry, place: Path) -> None:
    first, _ = add(registry, "a"), add(registry, "b")
    champion(registry, first)
    assert run_at_once(CRASH, place, "x") == [1]
    assert registry.aliases("late")["champion"].version == first.name
    champion(registry, registry.version("late-2"))
    assert [change.version for change in registry.history("late")] == ["late-1", "late-2"]


def test_an_open_alert_is_renewed_and_a_closed_one_is_not(registry: Registry) -> None:
    alert = Alert(id="a", at=1, model="late", cause="outcome", todo="look", evidence={"times": 1})
    assert registry.record(alert)
    registry.renew("a", {"times": 2})
    assert registry.alerts("late")[0].evidence == {"times": 2}
    registry.resolve("a", resolution="over", at=5)
    registry.renew("a", {"times": 3})
    assert registry.alerts("late")[0].evidence == {"times": 2}
    with pytest.raises(RegistryError) as error:
        registry.renew("b", {})
    assert code(error) == "unknown_alert"
