"""Minutes of a model: counted as records are read, looked at once they are over, in the order of their time.

A record belongs to the minute that it says itself; one that comes when that minute has been looked at, to the next.
Counts and detectors lie in the keeper's environment and are written in its transactions, so that a crash neither loses
nor doubles a row, and the same records make the same alarms.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import lmdb
import msgspec
import numpy as np

from icekeel.core.frames import Floats, Frame, Ints
from icekeel.core.time import DAY, HOUR, MINUTE
from icekeel.data import AVAILABLE
from icekeel.data.quarantine import rule_of
from icekeel.journal import Predicted, Pushed, Quarantined, Refused
from icekeel.monitoring import (
    SAMPLED,
    Bank,
    Baseline,
    Counted,
    Now,
    Profile,
    Seen,
    Signal,
    State,
    arrivals,
    signal,
    silence,
)
from icekeel.operations.projections.projections import Settled

from .streams import ANSWERS, INTAKE, OUTCOMES, REFUSED, REQUESTS, Streams, digests, seen_before

KEPT = DAY
"""How long counted minutes are kept, for the facts of an alarm."""
LONGEST = 240
"""Minutes at most whose facts an alarm tells."""
LONGEST_AWAY = 31 * DAY
"""Minutes made up for after a long pause, or a clock that jumped ahead: the latest ones."""
AGAIN = HOUR
"""A signal that goes on is reported again so often."""
EMPTY = 5
"""Minutes without a row are looked at so many at a time."""
EXAMPLES = 10
FEW = 3
"""Values before a change from which on it is held against those, instead of all of the past."""
TWICE = 2_000
"""Answers among which the same question is not to come again."""
_pack = msgspec.msgpack.Encoder().encode


class Window(msgspec.Struct, array_like=True):
    """Rows of one stream in one minute: arrays as raw int64 and float64, see `Counted`, and some answers of it."""

    counts: bytes
    values: bytes
    unseen: dict[str, dict[str, int]]
    examples: list[str]


class Beat(msgspec.Struct, array_like=True):
    """When a stream last came, microseconds UTC; deliveries expected and seen since it began; whether silence was told."""

    last: int
    owed: float = 0.0
    came: int = 0
    told: int = 0


class Standing(msgspec.Struct, array_like=True):
    """How far a model's minutes have been looked at.

    Attributes:
        version: Whose baseline is held against.
        closed: Everything before was looked at.
        state: Of the bank.
        active: Key of a series that is above its bar -> when it was last reported, and its evidence then.
        beats: By stream.
        hashes: By stream, of rows shortly before, as raw int64.
    """

    version: str
    closed: int
    state: State
    active: dict[str, tuple[int, float]]
    beats: dict[str, Beat]
    hashes: dict[str, bytes]


_standing = msgspec.msgpack.Decoder(Standing).decode
_window = msgspec.msgpack.Decoder(Window).decode


class Minutes:
    """The minutes of one model.

    Args:
        environment: Of the keeper.
        streams: What of the model is watched.

    Attributes:
        rebuilding: Days are counted, and minutes that may have yet to be looked at: the others were before.
    """

    def __init__(self, environment: lmdb.Environment, streams: Streams) -> None:
        self._windows, self._states, self._days = (
            environment.open_db(name) for name in (b"minutes", b"watched", b"profiles")
        )
        self._streams = streams
        self._model = streams.model.name
        self._banks: tuple[str, Bank] | None = None
        self.rebuilding = False

    # Counting

    def answered(
        self, txn: lmdb.Transaction, records: Sequence[Predicted], version: str, baseline: Baseline
    ) -> None:
        """Count what was asked, and what the version answered."""
        standing = self._standing(txn)
        at = np.array([record.at for record in records], dtype=np.int64)
        ids = [record.id for record in records]
        self._add(txn, baseline, REQUESTS, self._streams.asked(records), at, ids, standing)
        self._intake(txn, baseline, self._model, f"field.{REFUSED}", ["accepted"] * len(ids), at, standing)
        before = _ints(standing.hashes.get(ANSWERS, b""))
        mine = digests(record.key or record.id for record in records)
        again = seen_before(mine, before, TWICE)
        standing.hashes[ANSWERS] = np.concatenate([before, mine])[-TWICE:].tobytes()
        own = [place for place, record in enumerate(records) if record.version == version]
        if own:
            frame = self._streams.answered([records[place] for place in own], again[own])
            self._add(txn, baseline, ANSWERS, frame, at[own], [ids[place] for place in own], standing)
        self._keep(txn, standing)

    def settled(
        self, txn: lmdb.Transaction, rows: Sequence[Settled], error: Floats, baseline: Baseline
    ) -> None:
        """Count what came of the version's answers; `error` of each, shape `(n,)`."""
        at = np.array([row.settled_at for row in rows], dtype=np.int64)
        frame = self._streams.settled(rows, error)
        self._add(txn, baseline, OUTCOMES, frame, at, [row.id for row in rows], self._standing(txn))

    def pushed(self, txn: lmdb.Transaction, records: Sequence[Pushed], baseline: Baseline) -> None:
        """Count rows of event tables, in the minute in which each became known."""
        standing = self._standing(txn)
        for name, table in self._streams.tables.items():
            mine = [(row, record.at) for record in records if record.table == name for row in record.rows]
            if not mine:
                continue
            rows = [row for row, _ in mine]
            known = np.array([int(row.get(AVAILABLE) or at) for row, at in mine], dtype=np.int64)
            key = f"table {name}"
            frame, last = self._streams.rows(table, rows, known, _ints(standing.hashes.get(key, b"")))
            standing.hashes[key] = last.tobytes()
            self._add(txn, baseline, key, frame, known, [], standing)
            self._intake(
                txn, baseline, name, f"source.{name}.quarantine", ["kept"] * len(rows), known, standing
            )
        self._keep(txn, standing)

    def set_aside(
        self, txn: lmdb.Transaction, record: Quarantined, baseline: Baseline, *, ahead: bool = False
    ) -> None:
        """Count rows that broke their contract, by the first rule.

        Args:
            ahead: As in a rehearsal, whose rows come before the time at which they say that they are known.
        """
        if record.table in self._streams.tables:
            known = self._streams.tables[record.table].available
            # Of a row that comes ahead and lacks its own time nobody knows in which minute it would have come.
            rows = [row for row in record.rows if not ahead or type(row.row.get(known)) is int]
            rules = [rule_of(row.faults[0]) if row.faults else "unknown" for row in rows]
            told = [row.row.get(known) for row in rows]
            at = np.array([max(record.at, int(one or 0)) if ahead else record.at for one in told], np.int64)
            column = f"source.{record.table}.quarantine"
            self._intake(txn, baseline, record.table, column, rules, at, self._standing(txn))

    def refused(self, txn: lmdb.Transaction, record: Refused, baseline: Baseline) -> None:
        """Count requests that were refused for faults of their own, each with its most frequent fault."""
        if record.model != self._model:
            return
        words = [
            word
            for word, times in sorted(record.faults.items(), key=lambda pair: -pair[1])
            for _ in range(times)
        ]
        words = (words or ["unknown"])[: record.asked]
        at = np.full(len(words), record.at, dtype=np.int64)
        self._intake(txn, baseline, self._model, f"field.{REFUSED}", words, at, self._standing(txn))

    def _intake(
        self, txn: lmdb.Transaction, baseline: Baseline, name: str, column: str, words: list[str], at: Ints,
        standing: Standing,
    ) -> None:  # fmt: skip
        frame = Frame({column: np.array(words, dtype=object)})
        self._add(txn, baseline, INTAKE + name, frame, at, [], standing)

    def _add(
        self, txn: lmdb.Transaction, baseline: Baseline, name: str, frame: Frame, at: Ints, ids: Sequence[str],
        standing: Standing,
    ) -> None:  # fmt: skip
        part = baseline.part(name)
        if part is None or not len(at):
            return
        for key, rows in _parts(at // DAY, lambda day: _day(self._model, standing.version, day, name)):
            _merge(txn, self._days, key, part.stream.count(frame.take(rows)), [])
        # Of a rebuild the latest day is enough: rows that are known from later on have yet to be looked at.
        recent = np.flatnonzero(at > at.max() - KEPT) if self.rebuilding else np.arange(len(at))
        places = np.maximum(at, 0 if self.rebuilding else standing.closed)[recent] // MINUTE
        for key, of_minute in _parts(places, lambda one: self._key(one, name)):
            rows = recent[of_minute]
            own = [ids[row] for row in rows[:EXAMPLES].tolist()] if ids else []
            _merge(txn, self._windows, key, part.stream.count(frame.take(rows)), own)

    # Looking

    def begin(self, txn: lmdb.Transaction, version: str, baseline: Baseline, now: int) -> None:
        """Hold minutes from now on against a version; what was counted before in other cells is dropped."""
        standing = self._standing(txn)
        if standing.version == version:
            return
        first = not standing.version
        seen = Seen.start(baseline.series, learnt=False)
        closed = now // MINUTE * MINUTE if first else max(standing.closed, 0)
        beats = {part.stream.name: Beat(closed) for part in baseline.monitored if part.heartbeat is not None}
        for key, _ in self._under(txn, 0, 2**40):
            txn.delete(key, db=self._windows)
            _, minute, name = key.decode().split("/", 2)
            if name in standing.beats:  # rows that came ahead, as in a rehearsal, are no silence
                beat = standing.beats[name]
                beat.last = max(beat.last, int(minute) * MINUTE)
        self._keep(
            txn, Standing(version, closed, seen.state(), {}, {**beats, **standing.beats}, standing.hashes)
        )

    def close(
        self, txn: lmdb.Transaction, until: int, version: str, baseline: Baseline, budget: float
    ) -> Iterator[tuple[int, list[Signal]]]:
        """Look at every minute that is over at `until`; gives the time of each look that found something, and what.

        Of a version that has just become champion nothing has been counted yet, and its cells are others.

        Args:
            budget: False alarms a year that all detectors of the model may raise.
        """
        standing, end = self._standing(txn), until // MINUTE * MINUTE
        if standing.version != version:
            return
        if end <= standing.closed - HOUR:  # the clock was ahead, and has been set right
            self.skip(txn, until)
        if end <= standing.closed:
            return
        if end - standing.closed > LONGEST_AWAY:
            self.skip(txn, end - LONGEST_AWAY)
            standing = self._standing(txn)
        bank = self._bank(standing.version, baseline, budget)
        seen = Seen.of(standing.state)
        filled: dict[int, dict[str, Window]] = defaultdict(dict)
        for key, raw in self._under(txn, standing.closed // MINUTE, end // MINUTE):
            _, place, name = key.decode().split("/", 2)
            filled[int(place)][name] = _window(raw)
        at = standing.closed
        while at < end:
            minute = at // MINUTE
            length = 1
            if minute not in filled:
                whole = minute % EMPTY == 0 and at + EMPTY * MINUTE <= end
                length = EMPTY if whole and not any(minute + step in filled for step in range(EMPTY)) else 1
            windows = filled.get(minute, {})
            counts = {name: _ints(one.counts) for name, one in windows.items()}
            seen = bank.look(seen, at, *baseline.sums(counts, float(length)))
            at += length * MINUTE
            found = self._found(txn, bank, seen, baseline, standing, at)
            found += self._silent(baseline, standing, windows, at, length)
            if found:
                yield at, found
        standing.closed, standing.state = end, seen.state()
        self._forget(txn, end - KEPT)
        self._keep(txn, standing)

    def _found(
        self, txn: lmdb.Transaction, bank: Bank, seen: Seen, baseline: Baseline, standing: Standing, at: int
    ) -> list[Signal]:
        """The series above their bar that are to be reported now."""
        places = np.flatnonzero(bank.alarms(seen)).tolist()
        above = {bank.series[place].key: place for place in places}
        standing.active = {key: told for key, told in standing.active.items() if key in above}
        due = [key for key in above if at - standing.active.get(key, (-AGAIN, 0.0))[0] >= AGAIN]
        if not due:
            return []
        evidence = bank.evidence(seen)
        over = {key for key in due if evidence[above[key]] < standing.active.get(key, (0, 0.0))[1]}
        for key in over:  # what was so certain an hour ago is less so now: a change that has ended
            seen.forget(above[key])
            del standing.active[key]
        due = [key for key in due if key not in over]
        standing.active |= {key: (at, float(evidence[above[key]])) for key in due}
        found = [self._signal(txn, bank, seen, baseline, above[key], at, evidence) for key in due]
        return list({(one.name, one.sentence): one for one in found if one is not None}.values())

    def _signal(
        self, txn: lmdb.Transaction, bank: Bank, seen: Seen, baseline: Baseline, place: int, at: int, evidence: Floats
    ) -> Signal | None:  # fmt: skip
        """What a series found; None where nothing came of late."""
        one, (since, up) = bank.series[place], bank.since(seen, place)
        part, cells = baseline.owner(place)
        since, size = max(since, at - LONGEST * MINUTE), float(evidence[place])
        name = part.stream.name
        windows = self._of_stream(txn, name, since, at)
        if cells is None:
            came = sum(int(_ints(window.counts)[: part.stream.starts[1]].sum()) for window in windows)
            owed = sum(float(bank.expected(seen, minute)[place]) for minute in range(since, at, MINUTE))
            return arrivals(one, came=came, owed=owed, since=since, size=size)
        column = next(at for at, own in enumerate(part.stream.columns) if own is cells)
        cut = slice(part.stream.starts[column], part.stream.starts[column + 1])
        counts = sum(
            (_ints(window.counts)[cut] for window in windows), np.zeros(cut.stop - cut.start, np.int64)
        )
        if not counts.sum():
            return None
        unseen = Counter[str]()
        for window in windows:
            unseen.update(window.unseen.get(cells.key, {}))
        before = sum(
            (_floats(one.values)[column] for one in self._of_stream(txn, name, since - KEPT, since)),
            np.zeros(3),
        )
        total, logs, known = sum((_floats(window.values)[column] for window in windows), np.zeros(3)).tolist()
        usual = float(before[1] / before[2]) if before[2] >= FEW else None
        examples = [name for window in reversed(windows) for name in window.examples][:EXAMPLES]
        now = Now(counts, total, logs, known, unseen, usual)
        return signal(one, cells, now, up=up, size=size, since=since, examples=examples)

    def _of_stream(self, txn: lmdb.Transaction, name: str, since: int, until: int) -> list[Window]:
        """The counted minutes of a stream in `[since, until)`."""
        ending = f"/{name}".encode()
        return [
            _window(raw)
            for key, raw in self._under(txn, since // MINUTE, until // MINUTE)
            if key.endswith(ending)
        ]

    def _silent(
        self, baseline: Baseline, standing: Standing, windows: Mapping[str, Window], at: int, length: int
    ) -> list[Signal]:
        """Streams of which nothing has come for longer than is ordinary; told once, until something comes."""
        found = []
        for part in baseline.monitored:
            name, heartbeat = part.stream.name, part.heartbeat
            if heartbeat is None or heartbeat.blind:
                continue
            beat = standing.beats.setdefault(name, Beat(at))
            owed = heartbeat.owed(at - length * MINUTE, at)
            # A history may be a sample: what it expects of a live system is learnt from what comes.
            ratio = beat.came / beat.owed if beat.owed >= 20 else 1.0
            rate = ratio if ratio > SAMPLED else 1.0
            beat.owed += owed
            if name in windows:
                beat.last, beat.told, beat.came = at, 0, beat.came + 1
                continue
            waited = heartbeat.missed(beat.last, at) * rate
            late = waited > heartbeat.limit or (0 < heartbeat.longest < at - beat.last)
            if late and at - beat.told >= AGAIN:
                beat.told = at
                what = name.removeprefix(INTAKE)
                subject = "traffic" if what == self._model else "source"
                since = beat.last
                found.append(silence(subject, what, since=since, minutes=(at - since) / MINUTE, owed=waited))
        return found

    def skip(self, txn: lmdb.Transaction, now: int) -> None:
        """Take all minutes up to now for looked at: those of a rebuild were. At time 0 none has begun."""
        self.rebuilding = False
        if not now:
            txn.delete(self._model.encode(), db=self._states)
            return
        standing = self._standing(txn)
        standing.closed = now // MINUTE * MINUTE
        standing.beats = {name: Beat(standing.closed) for name in standing.beats}
        self._forget(txn, standing.closed - KEPT)
        self._keep(txn, standing)

    # Reading

    def standing(self, txn: lmdb.Transaction) -> Standing:
        """How far the minutes have been looked at."""
        return self._standing(txn)

    def day(self, txn: lmdb.Transaction, day: int, version: str, baseline: Baseline) -> Profile | None:
        """The counts of a day in the version's cells; None where nothing was counted in them."""
        found = self.totals(txn, day, version, baseline)
        return baseline.profile({name: counts for name, (counts, _) in found.items()}) if found else None

    def totals(
        self, txn: lmdb.Transaction, day: int, version: str, baseline: Baseline
    ) -> dict[str, tuple[Ints, Floats]]:
        """Counts and values of a day by stream, see `Counted`; streams without a row are left out."""
        found = {}
        for part in baseline.monitored:
            raw = txn.get(_day(self._model, version, day, part.stream.name), db=self._days)
            if raw is not None:
                window = _window(raw)
                found[part.stream.name] = (_ints(window.counts), _floats(window.values))
        return found

    def _bank(self, version: str, baseline: Baseline, budget: float) -> Bank:
        if self._banks is None or self._banks[0] != version:
            self._banks = (version, baseline.bank(budget))
        return self._banks[1]

    def _standing(self, txn: lmdb.Transaction) -> Standing:
        raw = txn.get(self._model.encode(), db=self._states)
        if raw is None:
            return Standing("", 0, Seen.start([], learnt=False).state(), {}, {}, {})
        return _standing(raw)

    def _keep(self, txn: lmdb.Transaction, standing: Standing) -> None:
        txn.put(self._model.encode(), _pack(standing), db=self._states)

    def _key(self, minute: int, name: str) -> bytes:
        return f"{self._model}/{minute:012d}/{name}".encode()

    def _under(self, txn: lmdb.Transaction, first: int, end: int) -> Iterator[tuple[bytes, bytes]]:
        """Counted minutes in `[first, end)`, in order; the one given last may be deleted meanwhile."""
        cursor, last = txn.cursor(self._windows), self._key(end, "")
        found = cursor.set_range(self._key(first, ""))
        while found and (key := bytes(cursor.key())) < last:
            yield key, bytes(cursor.value())
            found = cursor.set_range(key + b"\0")

    def _forget(self, txn: lmdb.Transaction, before: int) -> None:
        for key, _ in self._under(txn, 0, before // MINUTE):
            txn.delete(key, db=self._windows)


def known_at(record: Pushed) -> int:
    """When the first row of a push became available, microseconds UTC."""
    return int(record.rows[0].get(AVAILABLE) or record.at)


def _merge(txn: lmdb.Transaction, database: Any, key: bytes, counted: Counted, ids: list[str]) -> None:
    stored = txn.get(key, db=database)
    counts, values, unseen = counted.counts, counted.values, counted.unseen
    if stored is not None:
        old = _window(stored)
        counts, values = counts + _ints(old.counts), values + _floats(old.values)
        ids = [*old.examples, *ids][:EXAMPLES]
        for name, words in old.unseen.items():
            mine = unseen.setdefault(name, {})
            for word, times in words.items():
                mine[word] = mine.get(word, 0) + times
    txn.put(key, _pack(Window(counts.tobytes(), values.tobytes(), unseen, ids)), db=database)


def _parts(place: Ints, key: Callable[[int], bytes]) -> Iterator[tuple[bytes, Ints]]:
    """Key and rows of each place, in order."""
    for one in np.unique(place).tolist():
        yield key(one), np.flatnonzero(place == one)


def _day(model: str, version: str, day: int, stream: str) -> bytes:
    return f"{model}/{version}/{day:08d}/{stream}".encode()


def _ints(raw: bytes) -> Ints:
    return np.frombuffer(raw, dtype=np.int64)


def _floats(raw: bytes) -> Floats:
    return np.frombuffer(raw, dtype=np.float64).reshape(-1, 3)
