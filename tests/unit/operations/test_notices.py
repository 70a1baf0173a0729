"""Telling people of alerts, to real servers on loopback: they take it, refuse it, hang, or are not there."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from icekeel.core.time import DAY, HOUR, MINUTE, SECOND, wall_clock
from icekeel.operations.alerts.channels import Channel, channels
from icekeel.operations.alerts.notices import FIRST_PAUSE, Teller, due
from icekeel.registry import Alert, AlertChange, Registry
from icekeel.testing.small import write_small_project

T0 = 20_000 * DAY
KEY = "between us"


class Taken(NamedTuple):
    headers: dict[str, str]
    body: bytes

    @property
    def facts(self) -> Any:
        return json.loads(self.body)


class Hook:
    """A receiver: `status` is what it says next; 0 lets it hang until it is closed."""

    def __init__(self) -> None:
        self.status, self.taken, self.over = 200, list[Taken](), threading.Event()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                hook.taken.append(
                    Taken({k.lower(): v for k, v in self.headers.items()}, self.rfile.read(length))
                )
                if hook.status:
                    self.send_response(hook.status)
                    self.send_header("content-length", "0")
                    self.end_headers()
                else:
                    hook.over.wait(60)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hooks/secret-path"

    def close(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()


class World:
    def __init__(self, folder: Path) -> None:
        self.now = T0
        self.folder = folder
        self.registry = Registry(folder / "registry.db", clock=lambda: self.now)

    def open(self, number: int, *, cost: float | None = None) -> str:
        identifier = f"a{number}"
        self.registry.record(
            Alert(
                id=identifier, at=self.now, model="late", cause=f"source S{number}", todo="look at the feed", cost=cost,
                evidence={"title": f"S{number}: late", "sentences": ["nothing for 3 h"], "diagnosis": "bad data"},
            )
        )  # fmt: skip
        return identifier

    def change(self, alert: str, state: Any, until: int | None = None) -> None:
        self.registry.change_alert(
            AlertChange(alert=alert, state=state, by="ann", reason="r", at=self.now, until=until)
        )

    def teller(self, *addresses: str, key: str = KEY) -> Teller:
        to = channels(" ".join(addresses), key)
        return Teller(self.registry, to, self.folder / "lock", lambda: self.now)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.registry.close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


def as_documented() -> Any:
    """The check that docs/alerts.md gives to receivers."""
    page = (Path(__file__).parents[3] / "docs" / "alerts.md").read_text()
    names: dict[str, Any] = {}
    exec(page.partition("```python\n")[2].partition("```")[0], names)
    return names["genuine"]


def test_a_webhook_gets_the_alert_signed_once_and_then_its_end(world: World, hook: Hook) -> None:
    teller = world.teller(hook.url)
    assert teller.state() is None
    alert = world.open(1, cost=120.0)
    assert teller.state() is not None
    (line,) = teller.tell()
    assert (line.status, teller.state(), teller.tell()) == ("delivered", None, [])
    (taken,) = hook.taken
    genuine = as_documented()
    assert genuine(KEY, taken.headers, taken.body)
    assert not genuine(KEY, taken.headers, taken.body + b" ")
    assert not genuine("another", taken.headers, taken.body)
    old = {**taken.headers, "icekeel-timestamp": str(int(taken.headers["icekeel-timestamp"]) - 3600)}
    assert not genuine(KEY, old, taken.body)
    assert taken.headers["idempotency-key"] == line.message == taken.facts["id"]
    assert taken.facts["event"] == "opened"
    assert taken.facts["alerts"][0]["usd_per_day"] == 120.0
    assert "Do first: look at the feed" in taken.facts["text"]
    world.change(alert, "resolved")
    assert [one.event for one in teller.tell()] == ["resolved"]
    assert teller.tell() == []


def test_what_fails_is_tried_again_with_growing_pauses_under_one_id_and_recorded(
    world: World, hook: Hook
) -> None:
    teller, hook.status = world.teller(hook.url), 500
    world.open(1)
    assert [one.status for one in teller.tell()] == ["failed"]
    assert teller.state() is None  # its pause
    world.now += FIRST_PAUSE
    assert [one.note for one in teller.tell()] == ["HTTP status 500"]
    world.now += FIRST_PAUSE
    assert teller.tell() == []
    world.now += FIRST_PAUSE
    hook.status = 200
    assert [one.status for one in teller.tell()] == ["delivered"]
    assert len({one.headers["idempotency-key"] for one in hook.taken}) == 1
    assert [one.status for one in world.registry.deliveries()] == ["begun", "failed"] * 2 + [
        "begun",
        "delivered",
    ]
    assert "secret-path" not in repr(world.registry.deliveries())
    with pytest.raises(sqlite3.IntegrityError, match="only ever added to"):
        sqlite3.connect(world.folder / "registry.db").execute("DELETE FROM deliveries")


def test_a_day_of_failures_is_given_up(world: World) -> None:
    teller = world.teller("http://127.0.0.1:1/nobody")
    world.open(1)
    assert [one.note for one in teller.tell()] == ["Connection refused"]
    world.now += DAY
    assert [one.status for one in teller.tell()] == ["given up"]
    world.now += DAY
    assert teller.tell() == []


def test_a_hook_that_hangs_delays_no_other(world: World, hook: Hook) -> None:
    good = Hook()
    try:
        hook.status = 0
        teller = world.teller(hook.url, good.url)
        found = {channel.address: why for channel, why in teller.test(deadline_s=0.5)}
        assert found == {hook.url: "no answer within 0.5 s", good.url: ""}
        assert good.taken[0].facts["event"] == "test"
    finally:
        good.close()


def test_an_attempt_that_a_crash_broke_off_is_made_again_under_the_same_id(world: World, hook: Hook) -> None:
    world.open(1)
    world.open(2)
    teller = world.teller(hook.url)
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom icekeel.operations.alerts import notices\n"
        "from icekeel.operations.alerts.channels import Channel, channels\nfrom icekeel.registry import Registry\n"
        "folder, url, now = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])\n"
        "send = Channel.send\n"
        "def die(channel, message):\n    send(channel, message)\n    os._exit(9)\n"
        "Channel.send = die\nregistry = Registry(folder / 'registry.db', clock=lambda: now)\n"
        f"notices.Teller(registry, channels(url, '{KEY}'), folder / 'lock', lambda: now).tell()\n"
    )
    command = [sys.executable, "-c", script, str(world.folder), hook.url, str(world.now)]
    assert subprocess.run(command, env=os.environ, check=False).returncode == 9
    begun = {one.message for one in world.registry.deliveries()}
    world.now += FIRST_PAUSE
    assert {one.status for one in teller.tell()} == {"delivered"}
    assert begun <= {one.headers["idempotency-key"] for one in hook.taken}
    told = [alert["id"] for one in hook.taken for alert in one.facts["alerts"]]
    assert set(told) == {"a1", "a2"}


def test_a_storm_is_one_message_and_a_channel_gets_three_in_ten_minutes(world: World, hook: Hook) -> None:
    teller = world.teller(hook.url)
    for number in range(7):
        world.open(number, cost=float(number))
    teller.tell()
    (storm,) = hook.taken
    assert storm.facts["title"] == "7 alerts at once"
    assert [one["id"] for one in storm.facts["alerts"]][:2] == ["a6", "a5"]  # the dearest first
    for number in range(7, 12):
        world.now += 20 * SECOND
        world.open(number)
        teller.tell()
    assert [len(one.facts["alerts"]) for one in hook.taken] == [7, 1, 1]
    world.now += 10 * MINUTE
    teller.tell()
    assert [len(one.facts["alerts"]) for one in hook.taken] == [7, 1, 1, 3]


def test_a_clock_that_was_set_back_keeps_nothing_from_being_told(world: World, hook: Hook) -> None:
    teller = world.teller(hook.url)
    for number in range(3):
        world.open(number)
        assert len(teller.tell()) == 1
    world.open(3)
    hook.status = 500
    world.now -= DAY  # it had been a day ahead
    world.open(4)
    assert [one.status for one in teller.tell()] == ["failed", "failed"]
    hook.status = 200
    world.now -= DAY
    assert {one.status for one in teller.tell()} == {"delivered"}
    assert teller.state() is None


def test_who_knows_or_does_not_want_to_is_not_told(world: World, hook: Hook) -> None:
    teller = world.teller(hook.url)
    for number, state in enumerate(("acknowledged", "muted", "resolved")):
        world.change(world.open(number), state, world.now + HOUR if state == "muted" else None)
    assert teller.tell() == []
    world.now += HOUR  # the mute is over, and it is still open
    assert [one.alerts for one in teller.tell()] == [["a1"]]
    world.open(9)
    world.now += 3 * DAY
    assert due(world.registry, channels(hook.url, KEY), world.now) == []  # long known from elsewhere


def test_a_webhook_without_a_key_and_an_address_without_its_secret_say_so(
    world: World, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOOK_TOKEN", raising=False)
    secret = hook.url.replace("secret-path", "${HOOK_TOKEN}")
    assert next(why for _, why in world.teller(hook.url, key="").test()).startswith("webhooks are signed")
    assert [why for _, why in world.teller(secret).test()] == ["not set in the environment: HOOK_TOKEN"]
    monkeypatch.setenv("HOOK_TOKEN", "s3cret")
    assert [why for _, why in world.teller(secret).test()] == [""]
    assert "s3cret" not in Channel(secret, "").shown
    assert "127.0.0.1" in Channel(secret, "").shown


@pytest.mark.parametrize(
    ("declared", "sent"),
    [
        ("ann:p%2Fss", "ann:p/ss"),
        ("ann:${HOOK_PASSWORD}", "ann:p/ss@w%rd ü"),  # as it is, whatever it holds
        ("${HOOK_USER}", "ann:p/ss"),
        ("t0ken", "t0ken:"),
    ],
)
def test_name_and_password_of_a_webhook_are_its_authorization_and_are_shown_nowhere(
    world: World, hook: Hook, monkeypatch: pytest.MonkeyPatch, caplog: Any, declared: str, sent: str
) -> None:
    monkeypatch.setenv("HOOK_PASSWORD", "p/ss@w%rd ü")
    monkeypatch.setenv("HOOK_USER", "ann:p/ss")
    address = hook.url.replace("http://", f"http://{declared}@")
    teller = world.teller(address)
    hook.status = 401
    world.open(1)
    assert [(one.status, one.note) for one in teller.tell()] == [("failed", "HTTP status 401")]
    hook.status, world.now = 200, world.now + FIRST_PAUSE
    assert [one.status for one in teller.tell()] == ["delivered"]
    for taken in hook.taken:
        kind, _, user = taken.headers["authorization"].partition(" ")
        assert (kind, base64.b64decode(user).decode()) == ("Basic", sent)
    (channel,) = channels(address, KEY)
    assert channel.shown.startswith("http://127.0.0.1... (")
    shown = repr((channel, world.registry.deliveries(), [vars(one) for one in caplog.records]))
    assert "notice_failed" in shown
    assert not any(secret in shown for secret in ("ann:", "p%2Fss", "p/ss", "HOOK_PASSWORD", "t0ken", KEY))


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # Apprise's, on old Pythons
def test_apprise_takes_it_to_its_services(world: World, hook: Hook) -> None:
    world.open(1)
    teller = world.teller(hook.url.replace("http://", "json://"))
    (line,) = teller.tell()
    assert (line.status, line.note) == ("delivered", "")
    assert hook.taken[0].facts["title"] == "late: S1: late"
    assert line.message in hook.taken[0].facts["message"]
    hook.status = 503
    assert [why for _, why in teller.test()] == ["the service did not take it"]
    assert "does not know" in world.teller("nosuch://x").test()[0][1]


def test_the_command_tells_what_is_due(tmp_path: Path, hook: Hook) -> None:
    write_small_project(tmp_path / "shop")
    state = tmp_path / "shop" / ".icekeel"
    state.mkdir()
    world = World(state)
    try:
        env = {**os.environ, "ICEKEEL_NOTIFY": hook.url, "ICEKEEL_NOTIFY_KEY": KEY}
        command = [
            sys.executable,
            "-m",
            "icekeel",
            "alerts",
            "tell",
            "--project",
            str(tmp_path / "shop"),
            "--json",
        ]
        world.now = wall_clock()
        world.open(1)
        done = subprocess.run(command, env=env, capture_output=True, check=True)
        assert [one["status"] for one in json.loads(done.stdout)] == ["delivered"]
        assert len(hook.taken) == 1
    finally:
        world.registry.close()
