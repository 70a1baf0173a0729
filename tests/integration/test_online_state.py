"""The online state broken for real: missing, damaged, full, behind; and made anew while it serves."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
import pytest

from icekeel.app import App
from icekeel.core.errors import Fault, StateError
from icekeel.core.time import DAY, HOUR, MINUTE, SECOND
from icekeel.features.live import State, StateCell
from icekeel.features.online.lmdb import open_environment
from icekeel.http.service import Service
from icekeel.journal import Positions, Predicted, scan
from icekeel.operations.loop import keeper as keepers
from icekeel.operations.loop import renewal
from icekeel.operations.projections.reach import Reach
from icekeel.settings import Settings
from icekeel.testing.small import PROJECT, REQUEST, TRAINED_TO, train_small, write_small_project

from .commands import PATIENCE_S, command, icekeel
from .shipping import Office, at_work, drain, kept, open_app, run_day, windows
from .test_server import Caller

NOW = TRAINED_TO + 30 * SECOND
MARKING = PROJECT.replace("retrain=", "stale=ik.Stale(unreadable=ik.mark()),\n    retrain=")
REFUSING = PROJECT.replace("retrain=", 'stale=ik.Stale(after="10m", otherwise=ik.refuse()),\n    retrain=')


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    write_small_project(folder)
    train_small(folder)
    keep_once(folder)
    return folder


def keep_once(folder: Path) -> None:
    app = App(folder, clock=lambda: NOW)
    registry = app.registry()
    with app.journal("keep") as journal:
        while True:
            keeper = app.keeper(registry, journal)
            try:
                drain(keeper)
                break
            except (
                StateError
            ) as error:  # damage that a keeper meets as it works: another follows it, as in `keep`
                assert error.code == "state_damaged"
                app.ask_anew()
            finally:
                keeper.close()
    registry.close()


Open = Callable[..., Service]


@pytest.fixture
def service(folder: Path) -> Iterator[Open]:
    """Opens the rooms behind a server, in this process, on a project file."""
    opened: list[Service] = []

    def make(project: str = PROJECT, *, now: int = NOW) -> Service:
        (folder / "project.py").write_text(project)
        opened.append(Service(App(folder, clock=lambda: now)))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def data_file(folder: Path) -> Path:
    return App(folder).places.online / "data.mdb"


def refused(service: Service) -> str:
    with pytest.raises(StateError) as caught:
        service.answerer("late").answer(dict(REQUEST))
    with pytest.raises(StateError):
        service.ready()
    return caught.value.code


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


# Missing and damaged


def remove(path: Path) -> None:
    shutil.rmtree(path.parent)


def garble(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(os.urandom(8192))


@pytest.mark.parametrize("broken", [remove, truncate])
@pytest.mark.parametrize("project", [PROJECT, MARKING])
def test_windows_that_go_missing_or_short_refuse_unless_the_project_says_otherwise(
    folder: Path, service: Open, project: str, broken: Callable[[Path], None]
) -> None:
    one = service(project)
    before = one.answerer("late").answer(dict(REQUEST))
    assert before.degraded == []
    broken(data_file(folder))
    one.follow_files()
    one.follow_files()
    if project == PROJECT:
        assert refused(one) == "no_online_state"
    else:
        answer = one.answerer("late").answer(dict(REQUEST))
        assert answer.degraded == ["windows_unreadable"]
        assert answer.features_age_s == before.features_age_s
        assert any("online:" in problem for problem in one.ready())
        (entry,) = [
            entry
            for entry in scan(folder / ".icekeel" / "journal", kinds=Predicted)
            if entry.id == answer.prediction_id
        ]
        assert (entry.position, entry.degraded) == (0, ["windows_unreadable"])
        assert (entry.features["delivered_1d"], entry.features["backlog"]) == (0.0, None)
    keep_once(folder)
    one.follow_files()
    assert one.answerer("late").answer(dict(REQUEST)).degraded == []
    assert one.ready() == []


@pytest.mark.parametrize("broken", [remove, truncate, garble])
def test_a_server_starts_on_a_broken_state_and_a_keeper_mends_it(
    folder: Path, service: Open, broken: Callable[[Path], None]
) -> None:
    sound = service()
    expected = sound.answerer("late").answer(dict(REQUEST)).prediction
    sound.close()
    broken(data_file(folder))
    plain = service()
    assert refused(plain) == "no_online_state"
    marking = service(MARKING)
    answer = marking.answerer("late").answer(dict(REQUEST))
    assert (answer.degraded, answer.features_age_s) == (["windows_unreadable"], None)
    keep_once(folder)
    marking.follow_files()
    assert marking.answerer("late").answer(dict(REQUEST)).prediction == expected


def test_whatever_pages_are_damaged_a_keeper_that_starts_mends_them(folder: Path, service: Open) -> None:
    sound = service()
    expected = sound.answerer("late").answer(dict(REQUEST)).prediction
    sound.close()
    whole, path = data_file(folder).read_bytes(), data_file(folder)
    for seed in range(6):
        rng = random.Random(seed)
        with path.open("wb") as file:
            file.write(whole)
            for page in rng.sample(range(2, len(whole) >> 12), 4):
                file.seek(page << 12)
                file.write(rng.randbytes(1 << 12))
        keep_once(folder)
        if not (folder / ".icekeel" / "rebuild").exists():
            mended = service()
            try:
                assert mended.answerer("late").answer(dict(REQUEST)).prediction == expected
            except StateError as error:  # pages that a keeper with nothing to do does not meet
                assert error.code == "no_online_state"
                mended.follow_files()
                assert (folder / ".icekeel" / "rebuild").exists()
            mended.close()
        keep_once(folder)
        final = service()
        assert final.answerer("late").answer(dict(REQUEST)).prediction == expected
        final.close()


def test_a_missing_file_is_looked_for_twice(folder: Path, service: Open) -> None:
    open_one, path = service(), data_file(folder)
    away = path.with_name("away")
    path.rename(away)
    open_one.follow_files()
    assert open_one.answerer("late").answer(dict(REQUEST)).degraded == []
    away.rename(path)
    open_one.follow_files()
    open_one.follow_files()
    assert open_one.answerer("late").answer(dict(REQUEST)).degraded == []


def test_bytes_that_cannot_be_decoded_are_unreadable_windows(folder: Path, service: Open) -> None:
    with App(folder).online(readonly=False) as online:
        with online.begin() as txn:
            (name,) = {bytes(name) for name, _ in txn.cursor()} & {b"chunks", b"windows"}
        records = online.open_db(name)
        with online.begin(write=True) as txn:
            for key, value in list(txn.cursor(records)):
                if len(value) > 64:
                    txn.put(key, bytes(value)[:70], db=records)
    marking = service(MARKING)
    assert marking.answerer("late").answer(dict(REQUEST)).degraded == ["windows_unreadable"]
    assert marking.ready() == ["late: the windows of some requests cannot be read"]
    marking.close()
    assert refused_request(service()) == "no_online_state"


def refused_request(service: Service) -> str:
    with pytest.raises(StateError) as caught:
        service.answerer("late").answer(dict(REQUEST))
    return caught.value.code


# Behind


@pytest.mark.parametrize(
    ("project", "minutes", "expected"),
    [(PROJECT, 11, ["keeper_behind"]), (REFUSING, 9, []), (REFUSING, 11, None)],
)
def test_a_keeper_that_is_behind_marks_or_refuses_as_the_project_says(
    service: Open, project: str, minutes: int, expected: list[str] | None
) -> None:
    one = service(project, now=NOW + minutes * MINUTE)
    if expected is None:
        assert refused(one) == "keeper_behind"
    else:
        assert one.answerer("late").answer(dict(REQUEST)).degraded == expected
        assert "keeper: behind by" in one.ready()[0]


# Full


@pytest.fixture
def small_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """Environments begin with a map that a day of events does not fit into."""

    def small(path: Path, *, readonly: bool = False) -> lmdb.Environment:
        return open_environment(path, readonly=readonly, map_size=400_000)

    monkeypatch.setattr(renewal, "open_environment", small)


@pytest.fixture
def expected(shipping: Path, tmp_path: Path) -> list[Any]:
    """The windows after two days with room enough."""
    app = open_app(Path(shutil.copytree(shipping, tmp_path / "wide")))
    with at_work(app) as (keeper, office):
        drain(keeper)
        for day in range(2):
            run_day(keeper, office, day)
        return windows(app, keeper._online)


@pytest.mark.parametrize("connects", ["once", "anew"])
def test_a_full_state_is_enlarged_and_readers_follow(
    shipping: Path, tmp_path: Path, expected: list[Any], small_map: None, connects: str
) -> None:
    app = open_app(Path(shutil.copytree(shipping, tmp_path / "narrow")))
    with kept(app) as keeper:
        size = keeper._online.info()["map_size"]
        drain_all(keeper)
        office = Office(app, keeper._online)
        with reading(app.folder, connects) as ask:
            for day in range(2):
                start = TRAINED_TO + day * DAY
                office.push(start, start + DAY)
                drain_all(keeper)
                assert ask(start) == "60 []"
                drain_all(keeper)
        assert keeper._online.info()["map_size"] > size
        assert windows(app, keeper._online) == expected
        office.close()


@contextmanager
def reading(folder: Path, connects: str) -> Iterator[Callable[[int], str]]:
    """Another process with a small map: asks for a day's answers, and says how many, and what they lacked."""
    root = Path(__file__).parents[2]
    called = [sys.executable, "-m", "tests.integration.test_online_state", str(folder), connects]
    child = subprocess.Popen(called, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None and child.stdout is not None
    stdin, stdout = child.stdin, child.stdout

    def ask(start: int) -> str:
        stdin.write(f"{start}\n")
        stdin.flush()
        return stdout.readline().strip()

    with child:
        yield ask
        stdin.close()
        assert child.wait(PATIENCE_S) == 0


def read_on(folder: Path, connects: str) -> None:
    app = open_app(folder)
    with open_environment(app.places.online, readonly=True, map_size=400_000) as online:
        office = Office(app, online, "read")
        for line in sys.stdin:
            if connects == "anew":
                office.answerers["late"].windows.connect(online)
            asked = office.ask(int(line), int(line) + DAY)
            answers = list(scan(app.places.journal, kinds=Predicted))[-asked:]
            print(asked, sorted({one for answer in answers for one in answer.degraded}), flush=True)
        office.close()


def drain_all(keeper: keepers.Keeper) -> None:
    """As `drain`, until a step neither reads nor enlarges."""
    while keeper.step() or keeper._again is not None:
        pass


def test_where_the_disk_has_no_room_the_keeper_says_so_and_waits(
    shipping: Path, tmp_path: Path, expected: list[Any], small_map: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_app(Path(shutil.copytree(shipping, tmp_path / "narrow")))
    with kept(app) as keeper:
        drain_all(keeper)
        office = Office(app, keeper._online)
        with monkeypatch.context() as patch:
            patch.setattr(keepers, "LEAST_FREE", 1 << 60)
            patch.setattr(keepers, "PAUSE_S", 0.0)
            for day in range(2):
                start = TRAINED_TO + day * DAY
                office.push(start, start + DAY)
                for _ in range(9):
                    keeper.step()
                office.ask(start, start + DAY)
                office.tick(start + DAY)
            assert keeper.step() == 0
            (alert,) = [one for one in keeper._registry.alerts("late") if one.cause == "disk"]
            assert alert.todo.startswith("Free space")
            assert keeper.state.now < TRAINED_TO + 2 * DAY
        drain_all(keeper)
        office.close()
        assert keeper.state.now == TRAINED_TO + 2 * DAY
        assert windows(app, keeper._online) == expected
        result = app_audit(app, keeper)
        assert result.differences == ()
        assert result.rows > 50


def app_audit(app: App, keeper: keepers.Keeper) -> Any:
    from icekeel.operations.skew.skew import Auditor

    return Auditor(app.workspace, keeper._online).audit("late")


# Made anew


def served(folder: Path) -> list[dict[str, Any]]:
    return [dict(one.features) for one in scan(folder / ".icekeel" / "journal", kinds=Predicted)]


def test_windows_are_made_anew_under_load_and_nothing_changes(folder: Path) -> None:
    # A keeper may take its time to start where everything else runs too: that is not what is looked at here.
    patient = PROJECT.replace("retrain=", 'stale=ik.Stale(after="10m"),\n    retrain=')
    (folder / "project.py").write_text(patient)
    token = App(folder).access().create("load", ("predict",))
    with command(folder, "serve", "--port", "0", now=NOW) as (_, said), command(folder, "keep", now=NOW):
        caller = Caller(said["listening"], token, "load")
        caller.start()
        before = data_file(folder).stat().st_ino
        told = icekeel(folder, "rebuild")
        asked = len(caller.answers)
        deadline = time.monotonic() + PATIENCE_S
        while len(caller.answers) < asked + 500 and time.monotonic() < deadline:
            time.sleep(0.01)
        caller.stop.set()
        caller.join()
        assert caller.failures == []
        assert told["by"] == "keeper"
        assert data_file(folder).stat().st_ino != before
    answers = list(scan(folder / ".icekeel" / "journal", kinds=Predicted))
    assert len({answer.position for answer in answers}) >= 2
    assert {one for answer in answers for one in answer.degraded} == set()
    # All within a minute of 1 March: no event comes or goes meanwhile.
    assert len({json.dumps(features, sort_keys=True) for features in served(folder)}) == 1
    told = icekeel(folder, "audit", "late", "--only", "skew", "--sample", "100")
    result = told["audits"][0]["evidence"]
    assert (result["rows"], result["differences"], result["left_out"]) == (100, [], {})


def test_without_a_keeper_the_command_makes_them_itself(folder: Path, service: Open) -> None:
    one, before = service(), data_file(folder).stat().st_ino
    old = one.answerer("late").answer(dict(REQUEST))
    assert icekeel(folder, "rebuild")["by"] == "rebuild"
    assert data_file(folder).stat().st_ino != before
    assert not (folder / ".icekeel" / "rebuild").exists()
    one.follow_files()
    new = one.answerer("late").answer(dict(REQUEST))
    assert (new.prediction, new.degraded, new.features_age_s) == (old.prediction, [], old.features_age_s)
    first, second = scan(folder / ".icekeel" / "journal", kinds=Predicted)
    assert first.features == second.features
    assert first.position < second.position
    one.close()
    assert App(folder).audit("late").rows == 2


def test_a_file_cut_short_under_a_running_server_does_not_end_it(folder: Path) -> None:
    (folder / "project.py").write_text(MARKING)
    token = App(folder).access().create("cut", ("predict",))
    with command(folder, "serve", "--port", "0", now=NOW) as (server, said):
        caller = Caller(said["listening"], token, "cut")
        caller.ask(0)
        truncate(data_file(folder))
        time.sleep(0.5)  # the server looks five times a second; a request before that may end it
        caller.ask(1)
        assert server.poll() is None
        with command(folder, "keep", now=NOW):
            deadline = time.monotonic() + PATIENCE_S
            caller.close()  # a server ends a connection that rests while the keeper starts; it is opened again
            while caller.answers[-1]["degraded"] and time.monotonic() < deadline:
                caller.ask(2)
        caller.close()
    assert caller.failures == []
    assert [one["degraded"] for one in (caller.answers[0], caller.answers[1], caller.answers[-1])] == [
        [],
        ["windows_unreadable"],
        [],
    ]
    assert caller.answers[0]["prediction"] == caller.answers[-1]["prediction"]


def test_a_running_keeper_makes_a_state_anew_that_is_taken_away(folder: Path) -> None:
    with command(folder, "keep", now=NOW):
        remove(data_file(folder))
        deadline = time.monotonic() + PATIENCE_S
        while not data_file(folder).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert App(folder, Settings(), clock=lambda: NOW + HOUR).audit("late").rows == 0
    assert data_file(folder).exists()


def test_a_rebuilding_that_ended_between_its_two_renamings_loses_nothing(folder: Path) -> None:
    place = App(folder).places.online
    with open_environment(place) as online:
        reach, cell = Reach(online), StateCell(online)
        with online.begin(write=True) as txn:
            serial = cell.read(txn).serial + 1
            state = State(serial=serial, positions=Positions({"serve": 11}).encode())
            reach.note(txn, state, ())
            cell.write(txn, state)
    place.rename(place.with_suffix(".old"))
    keep_once(folder)
    with open_environment(place, readonly=True) as online:
        assert Reach(online).at([serial])[serial].offsets == {"serve": 11}


def test_a_keeper_that_meets_damage_makes_its_state_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, stop = App(folder, clock=lambda: NOW), threading.Event()
    opened: list[int] = []

    def meet_damage(keeper: keepers.Keeper, stop: threading.Event, *, anew: Callable[[], bool]) -> None:
        opened.append(data_file(folder).stat().st_ino)
        keeper.close()
        if len(opened) == 1:
            raise StateError(Fault("state_damaged", "a page is not what it was"))
        stop.set()

    monkeypatch.setattr(keepers.Keeper, "run", meet_damage)
    registry = app.registry()
    with app.journal("keep") as journal:
        app.keep(registry, journal, stop, ready=lambda: None)
    (alert,) = registry.alerts("late", open_only=True)
    registry.close()
    assert len(set(opened)) == 2
    assert (alert.cause, alert.at) == ("store", NOW)
    assert "a page is not what it was" in alert.evidence["sentences"][0]


if __name__ == "__main__":
    read_on(Path(sys.argv[1]), sys.argv[2])


def test_damage_that_only_the_server_met_is_told(folder: Path) -> None:
    def stores() -> list[Any]:
        registry = App(folder).registry()
        found = [one.evidence["sentences"] for one in registry.alerts("late") if one.cause == "store"]
        registry.close()
        return found

    App(folder).ask_anew()
    keep_once(folder)
    assert stores() == []
    App(folder).ask_anew("requests of late met damage in it")
    App(folder).ask_anew("and again")
    keep_once(folder)
    assert stores() == [["requests of late met damage in it"]]
