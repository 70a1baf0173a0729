"""Telling people of alerts: what is to be told, at least once, to whom, how often it is tried, and how storms are folded.

What is to be told follows from the alerts and from the record of what was told, so nothing can be forgotten in between:
a message is told at least once across crashes, each time under the same id, by which its receiver can know it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icekeel.core.files import alone
from icekeel.core.ids import digest
from icekeel.core.time import DAY, MINUTE, SECOND, Clock, format_second
from icekeel.registry import Alert, Delivery, Registry

from .alerting import severity
from .channels import Channel, Message

MOST_SINGLE, WINDOW = 3, 10 * MINUTE
"""So many messages go to one channel in such a time; what comes beyond is told together, in one, when it is over."""
FIRST_PAUSE, LONGEST_PAUSE, GIVEN_UP = 10 * SECOND, 3_600 * SECOND, DAY
"""A message that failed is tried again after a pause that doubles, for a day."""
OLDEST = 2 * DAY
"""What is older is not told any more: it was while nobody was to be told, or it stands in the console anyhow."""
REMEMBERED = 400 * DAY
DEADLINE_S = 15.0
"""An attempt that takes longer has failed, whatever the other side does."""
Attempt = tuple[threading.Thread, list[str]]
"""The thread that sends, and what came of it once it has."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Notice:
    """A message that is due: to whom, which alerts, and whether they opened or are over.

    Attributes:
        id: The same at every attempt.
        attempts: That were made before.
    """

    id: str
    channel: Channel
    event: str
    alerts: tuple[str, ...]
    attempts: int = 0


def due(registry: Registry, channels: Sequence[Channel], now: int) -> list[Notice]:
    """What is to be told now.

    First what failed or was broken off and whose pause is over, then what was never told: an alert that is neither
    muted nor told, and the end of one that was. Beyond `MOST_SINGLE` messages in `WINDOW`, the rest waits, and is one.
    """
    if not channels:
        return []
    lines, alerts = registry.deliveries(now - REMEMBERED), registry.alerts(since=now - REMEMBERED)
    return [notice for channel in channels for notice in _due_to(channel, lines, alerts, now)]


def _due_to(
    channel: Channel, lines: Iterable[Delivery], alerts: Sequence[Alert], now: int
) -> Iterator[Notice]:
    messages: dict[str, list[Delivery]] = {}
    for line in lines:
        if line.channel == channel.shown:
            messages.setdefault(line.message, []).append(line)
    taken = {(line.event, alert) for told in messages.values() for line in told for alert in line.alerts}
    heard = {
        alert
        for told in messages.values()
        for line in told
        if line.status == "delivered"
        for alert in line.alerts
    }
    for message, told in messages.items():
        if told[-1].status in ("begun", "failed"):
            attempts = sum(line.status == "begun" for line in told)
            pause = min(FIRST_PAUSE << min(attempts - 1, 20), LONGEST_PAUSE)
            # What was broken off may be under way still, in a process that is about to end.
            if not told[-1].at <= now < told[-1].at + pause:  # nor waits for a clock that was set back
                yield Notice(message, channel, told[0].event, tuple(told[0].alerts), attempts)
    fresh = [
        ("opened", alert.id) for alert in alerts if alert.state(now) == "open" and now - alert.at <= OLDEST
    ]
    fresh += [
        ("resolved", alert.id)
        for alert in alerts
        if alert.id in heard and now - (alert.resolved_at or 0) <= OLDEST
    ]
    for event in ("opened", "resolved"):
        waiting = [alert for kind, alert in fresh if kind == event and (event, alert) not in taken]
        begun = [told[0].at for told in messages.values() if now - WINDOW < told[0].at <= now]
        left = MOST_SINGLE - len(begun)
        if len(waiting) <= max(0, left - 1):
            parts: list[tuple[str, ...]] = [(alert,) for alert in waiting]
        elif waiting and left > 0:
            parts = [tuple(waiting)]
        else:
            parts = []
        for part in parts:
            identifier = digest("\n".join((event, channel.shown, *sorted(part))).encode())[:24]
            messages[identifier] = [_line(Notice(identifier, channel, event, part), "begun", now)]
            yield Notice(identifier, channel, event, part)


class Teller:
    """Tells people of alerts.

    Args:
        registry: Holds the alerts, and what was told of them.
        channels: To whom.
        lock: File that is locked meanwhile.
        clock: The time.
    """

    def __init__(self, registry: Registry, channels: Sequence[Channel], lock: Path, clock: Clock) -> None:
        self._registry = registry
        self._channels = channels
        self._lock = lock
        self._clock = clock

    def state(self) -> int | None:
        """A number that is another when other things are due; None where nothing is."""
        notices = due(self._registry, self._channels, self._clock())
        text = "\n".join(f"{one.id} {one.channel.shown} {one.attempts}" for one in notices)
        return int(digest(text.encode())[:12], 16) if notices else None

    def tell(self) -> list[Delivery]:
        """Tell what is due, and record it; nothing where another process is telling."""
        with alone(self._lock) as mine:
            notices = due(self._registry, self._channels, self._clock()) if mine else []
            return tell(self._registry, notices, self._clock)

    def test(self, *, deadline_s: float = DEADLINE_S) -> list[tuple[Channel, str]]:
        """Send every channel a message that says it is a test; gives what went wrong, empty where nothing did."""
        text = "This is a test of Icekeel's alerts: nothing is wrong."
        message = Message(
            f"test-{self._clock()}", "Test", text, {"event": "test", "title": "Test", "alerts": []}
        )
        sent = [(one, _begin(one, message)) for one in self._channels]
        end = time.monotonic() + deadline_s
        return [(channel, _came(attempt, end, deadline_s)) for channel, attempt in sent]


def tell(
    registry: Registry, notices: Sequence[Notice], clock: Clock, *, deadline_s: float = DEADLINE_S
) -> list[Delivery]:
    """Send what is due, each channel beside the others, and record every attempt before and after it."""
    known = {alert.id: alert for alert in registry.alerts()}
    made: list[Delivery] = []
    sent: list[tuple[Notice, Attempt]] = []
    for notice in notices:
        registry.delivered(_line(notice, "begun", clock()))
        message = message_of(notice, [known[one] for one in notice.alerts if one in known], clock())
        sent.append((notice, _begin(notice.channel, message)))
    end = time.monotonic() + deadline_s
    for notice, attempt in sent:
        note = _came(attempt, end, deadline_s)
        first = min(line.at for line in registry.deliveries() if line.message == notice.id)
        status = "delivered" if not note else "given up" if clock() - first >= GIVEN_UP else "failed"
        line = _line(notice, status, clock(), note)
        registry.delivered(line)
        made.append(line)
        if note:
            log.error("notice_failed", extra={"channel": notice.channel.shown, "why": note, "status": status})
    return made


def _begin(channel: Channel, message: Message) -> Attempt:
    came: list[str] = []
    thread = threading.Thread(target=_send, args=(channel, message, came), daemon=True)
    thread.start()
    return thread, came


def _came(attempt: Attempt, end: float, deadline_s: float) -> str:
    """What went wrong with an attempt, as known when the time is over."""
    thread, came = attempt
    thread.join(max(0.0, end - time.monotonic()))
    return came[0] if came else f"no answer within {deadline_s:g} s"


def _send(channel: Channel, message: Message, came: list[str]) -> None:
    """The thread of one attempt: appends what went wrong, or an empty text."""
    try:
        came.append(channel.send(message))
    except Exception as error:  # a process boundary: whatever a service's library raises is a failed attempt
        came.append(f"{type(error).__name__}")


def _line(notice: Notice, status: str, at: int, note: str = "") -> Delivery:
    return Delivery(
        message=notice.id,
        channel=notice.channel.shown,
        event=notice.event,
        status=status,
        alerts=list(notice.alerts),
        at=at,
        note=note,
    )


def message_of(notice: Notice, alerts: Sequence[Alert], now: int) -> Message:
    """What is said of some alerts: of one all that counts, of several a line each, the dearest first."""
    over = notice.event == "resolved"
    ranked = sorted(alerts, key=lambda one: (-(one.cost if one.cost is not None else -1.0), one.at, one.id))
    if len(ranked) == 1:
        one = ranked[0]
        title = f"{one.model}: {'over: ' if over else ''}{one.title}"
        body = f"It is over: {one.resolution}." if over else _said(one)
    else:
        title = f"{len(ranked)} alerts {'are over' if over else 'at once'}"
        body = "\n".join(f"{one.model}, {one.cause}: {one.title} ({severity(one)})" for one in ranked)
        body += "" if over or not ranked else f"\nDo first: {ranked[0].todo}"
    facts = [_facts(one, now) for one in ranked]
    return Message(notice.id, title, body, {"event": notice.event, "title": title, "alerts": facts})


def _said(alert: Alert) -> str:
    sentences = [str(one) for one in alert.evidence.get("sentences", ())][:3]
    cost = str(alert.evidence.get("reckoning", "")) or severity(alert)
    lines = [*sentences, cost, f"Do first: {alert.todo}", f"icekeel alerts show {alert.id}"]
    return "\n".join([f"Since {format_second(int(alert.evidence.get('since', alert.at)))}.", *lines])


def _facts(alert: Alert, now: int) -> Mapping[str, Any]:
    """An alert for programs."""
    return {
        "id": alert.id,
        "model": alert.model,
        "cause": alert.cause,
        "state": alert.state(now),
        "diagnosis": alert.diagnosis,
        "opened_at": format_second(alert.at),
        "usd_per_day": alert.cost,
        "title": alert.title,
        "sentences": list(alert.evidence.get("sentences", ())),
        "todo": alert.todo,
        "examples": list(alert.evidence.get("examples", ())),
    }
