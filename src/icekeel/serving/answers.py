"""One request, one answer: the path every prediction takes."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from icekeel.compile import compile_row, request_leaf
from icekeel.core.errors import Fault, JournalError, RefusedError, RequestError, StateError
from icekeel.core.ids import new_id
from icekeel.core.time import Clock
from icekeel.data import Hide, RecordParser
from icekeel.define import Model, Refuse
from icekeel.features.live import State, outcome_key
from icekeel.features.plan import Plan
from icekeel.guard import Verdict
from icekeel.journal import Predicted, Refused, Writer
from icekeel.registry import CHALLENGER, CHAMPION

from .conduct import MODEL, Conduct, Conducted, Flagged
from .routing import Router
from .versions import LoadedVersion
from .windows import Served, Windows

Value = float | int | str | None
UNLOGGED = "unlogged"
FORCED = "forced"
"""Phase of answers whose arm the project names."""
CHALLENGER_FAILED = "challenger_failed"
"""Among what was degraded: the challenger gave no finite answer, so the champion did."""
log = logging.getLogger(__name__)


class Answer(msgspec.Struct, frozen=True, omit_defaults=False):
    """What the caller gets.

    Attributes:
        prediction: The answer, after postprocessors.
        interval: Lower and upper end, where the version has an interval.
        action: What follows, where the project declares an action; `none` below its threshold.
        verdict: `pass`, or the kind of the gravest finding of the guard.
        codes: All findings, as codes that name only the caller's own fields.
        features_age_s: Seconds since the newest event the features could see became available; null before any.
            Where the windows could not be read, since the newest that they could see when they last were.
        features_lag_s: The features see every event that was in the journal so many seconds before the question; null
            before any, and in a rehearsal. A second where the keeper runs.
        degraded: What the features lacked: `no_events` (none seen yet), `keeper_behind` (they lag by more than
            `stale=` allows, since the keeper does not run or does not keep up), `stale:TABLE` (nothing new of it has
            come for longer than its `fresh=`), `stale:TABLE.COLUMN: ...` (the newest row of this request's own key is
            older; which features, how old, the limit), `windows_unreadable` (every window counted as never seen). And
            `unlogged`: it is not in the journal; `challenger_failed`: the challenger of an experiment gave no number, so
            the champion answered.
        source: What gave the answer: `model`, or the fall-back that stood in for it.
    """

    prediction: float
    prediction_id: str
    version: str
    arm: str
    interval: tuple[float, float] | None = None
    action: str | None = None
    verdict: str = "pass"
    codes: list[str] = []
    features_age_s: float | None = None
    features_lag_s: float | None = None
    degraded: list[str] = []
    source: str = MODEL


class Answerer:
    """Answers requests for one model.

    Args:
        model: Its definition.
        plan: All features any of its versions may read.
        windows: Where they are read.
        router: Which version answers.
        journal: Every answer is in it before the caller has it.
        clock: The time of the question.
        hide: Gives the pseudonyms of private fields.

    Attributes:
        windows: What it was given; to be connected to an online state.
    """

    def __init__(
        self,
        model: Model,
        plan: Plan,
        windows: Windows,
        router: Router,
        *,
        journal: Writer,
        clock: Clock,
        hide: Hide | None = None,
    ) -> None:
        self.model = model
        self.router = router
        self.windows = windows
        self._journal = journal
        self._clock = clock
        self._parser = RecordParser(plan.fields, hide)
        self._names = tuple(feature.name for feature in plan.features)
        self._definitions = plan.digest
        fields = [field.name for field in plan.fields]
        self._fields = fields
        unit = model.rollout.unit.node if model.rollout is not None else model.outcome.keyed.keys[0][1]
        self._unit = fields.index(unit.name)
        self._entry_rules(model, plan, fields, hide)
        self._key = [fields.index(field.name) for _, field in model.outcome.keyed.keys]
        self._after = [compile_row([step.node], request_leaf(fields), "r, a") for step in model.after]
        self._threshold = model.action.threshold if model.action is not None else math.inf
        self._unlogged = False
        self._conduct = Conduct(
            model, plan, finish=self._finish, previous=lambda: self.router.current.previous
        )

    def _entry_rules(self, model: Model, plan: Plan, fields: Sequence[str], hide: Hide | None) -> None:
        """Who takes part in an experiment, and whom the project assigns itself."""
        only = model.rollout.only if model.rollout else None
        self._only = compile_row([only.node], request_leaf(fields), "r") if only is not None else None
        entity = plan.fields[self._unit].entity
        forced = model.rollout.forced if model.rollout else {}
        private = hide if entity else None
        self._forced = {private(entity, unit) if private else unit: arm for unit, arm in forced.items()}

    def state(self) -> State:
        """How far the keeper is."""
        return self.windows.state()

    def check(self) -> None:
        """Raise what keeps every request from an answer.

        Raises:
            StateError: no version serves this model, or the project says to refuse while its windows are as they are.
        """
        self._champion()
        self.windows.check()

    def answer(self, record: Any, *, asked_at: int | None = None, trace: str = "") -> Answer:
        """The answer to one request, journaled.

        Args:
            record: Decoded JSON.
            asked_at: Time of the question in a rehearsal; otherwise the clock's.
            trace: Which trace of the caller's it belongs to, for the journal.

        Raises:
            RequestError: the request is faulty (of it only the faults are journaled), or the guard refuses it (it is).
            StateError: no version serves this model, or its windows are such that the project says to refuse.
            JournalError: the answer cannot be journaled, so it is not given, unless `unlogged=` says so.
        """
        started = time.thread_time_ns()
        at = self._clock() if asked_at is None else asked_at
        try:
            asked = self._asked(record, at, trace)
        except RequestError as error:
            self._note_refused(at, [error])
            raise
        read = self.windows.read(asked.request, asked.at)
        raw = asked.version.predict_one(read.values)
        if asked.arm == CHALLENGER and not math.isfinite(raw):
            asked = self._stood_in(asked)
            raw = asked.version.predict_one(read.values)
        verdicts = self._check(asked, raw)
        draft = self._draft(asked, read, raw, verdicts, started)
        kept = self._keep([draft.entry])
        if draft.refusal is not None:
            raise draft.refusal
        return draft.answer if kept else _unlogged(draft.answer)

    def answer_many(
        self, records: Sequence[Any], *, asked_at: int | None = None, trace: str = ""
    ) -> list[Answer | RequestError]:
        """The answer to each request, or why it has none; all are journaled together, before any is given.

        Raises:
            StateError, JournalError: as `answer`; none is given then.
        """
        return self.give(self.draft_many(records, asked_at=asked_at, trace=trace))

    def draft_many(
        self, records: Sequence[Any], *, asked_at: int | None = None, trace: str = ""
    ) -> list[Draft]:
        """What `answer` would give to each request, column by column and not yet journaled; see `give`.

        All are asked at the same time. Bit for bit what each would get alone at that time, but for its id.

        Raises:
            StateError: as `answer`.
        """
        started = time.thread_time_ns()
        at = self._clock() if asked_at is None else asked_at
        drafts: list[Draft | None] = [None] * len(records)
        asked: dict[int, _Asked] = {}
        for place, record in enumerate(records):
            try:
                asked[place] = self._asked(record, at, trace)
            except RequestError as error:
                drafts[place] = error
        self._note_refused(at, [draft for draft in drafts if isinstance(draft, RequestError)])
        reads = dict(
            zip(asked, self.windows.read_many([one.request for one in asked.values()], at), strict=True)
        )
        raws, verdicts = self._predict_many(asked, reads)
        failed = [p for p, one in asked.items() if one.arm == CHALLENGER and not math.isfinite(raws[p])]
        if failed:
            asked |= {place: self._stood_in(asked[place]) for place in failed}
            again = self._predict_many({place: asked[place] for place in failed}, reads)
            raws |= again[0]
            verdicts = {p: v for p, v in verdicts.items() if p not in failed} | again[1]
        share = (time.thread_time_ns() - started) // (len(asked) or 1)
        for place, one in asked.items():
            began = time.thread_time_ns() - share
            try:
                found = verdicts.get(place, _NOTHING)
                drafts[place] = self._draft(one, reads[place], raws[place], found, began)
            except RequestError as error:
                drafts[place] = error
        return [draft for draft in drafts if draft is not None]

    def give(self, drafts: Sequence[Draft]) -> list[Answer | RequestError]:
        """The answers of drafts, or why they have none, once all that were answered or refused are in the journal.

        Raises:
            JournalError: as `answer`; none is given then.
        """
        kept = self._keep([draft.entry for draft in drafts if isinstance(draft, Drafted)])
        return [
            draft
            if isinstance(draft, RequestError)
            else draft.refusal or (draft.answer if kept else _unlogged(draft.answer))
            for draft in drafts
        ]

    def _keep(self, entries: Sequence[Predicted]) -> bool:
        """Whether all of these are in the journal; where they cannot be, `unlogged=` says whether that matters."""
        try:
            self._journal.append_many(entries)
        except JournalError as error:
            if isinstance(self.model.unlogged, Refuse):
                raise
            if not self._unlogged:
                log.error("answers_unlogged", extra={"model": self.model.name, "why": str(error)})
            self._unlogged = True
            return False
        self._unlogged = False
        return True

    def _note_refused(self, at: int, errors: Sequence[RequestError]) -> None:
        """Have the journal tell the keeper what was wrong with requests, which are refused whether or not it can."""
        if not errors:
            return
        counts: Counter[str] = Counter()
        for error in errors:
            where = {(one.code, one.where if one.where in self._fields else "") for one in error.faults}
            counts.update(f"{code} {field}".rstrip() for code, field in sorted(where))
        with suppress(JournalError):  # of which answers tell
            self._journal.append(
                Refused(at=at, model=self.model.name, asked=len(errors), faults=dict(counts))
            )

    def _asked(self, record: Any, at: int, trace: str) -> _Asked:
        request, faults = self._parser.parse(record)
        if faults:
            raise RequestError(*faults)
        unit = "" if request[self._unit] is None else str(request[self._unit])
        return _Asked(request, at, trace, unit, *self._assign(request, unit))

    def _stood_in(self, asked: _Asked) -> _Asked:
        """With the champion in place of a challenger that has no finite answer; it is counted against the challenger."""
        return asked._replace(version=self._champion(), failed=True)

    def _predict_many(
        self, asked: Mapping[int, _Asked], reads: Mapping[int, Served]
    ) -> tuple[dict[int, float], dict[int, list[Verdict]]]:
        """What the models say to each request, and what their guards find, each version called once."""
        raws: dict[int, float] = {}
        verdicts: dict[int, list[Verdict]] = {}
        for version in {one.version.name: one.version for one in asked.values()}.values():
            rows = {place: one.request for place, one in asked.items() if one.version.name == version.name}
            said = version.predict_many([reads[place].values for place in rows])
            raws.update(zip(rows, said, strict=True))
            if version.guard is None:
                continue
            columns = list(zip(*rows.values(), strict=True))
            found = version.guard.check_many([columns[at] for at in version.guarded], said)
            for row, place in enumerate(rows):
                if row in found:
                    verdicts[place] = self._untaught(found[row], asked[place], raws[place])
        return raws, verdicts

    def _draft(
        self, asked: _Asked, read: Served, raw: float, verdicts: list[Verdict], started: int
    ) -> Drafted:
        """The answer and its entry in the journal, which is not yet written.

        Raises:
            RequestError: the answer is not finite.
        """
        request, at, version = asked.request, asked.at, asked.version
        prediction = self._finish(raw, request)
        interval = version.interval.around(prediction) if version.interval else None
        conducted = Conducted(prediction, interval, MODEL, False, raw)
        if verdicts or read.old:
            flagged = Flagged(request, read.values, version, raw, prediction, interval)

            def flags(other: LoadedVersion, said: float) -> list[Verdict]:
                return self._check(asked._replace(version=other), said)

            if verdicts:
                conducted = self._conduct.of(verdicts, flagged, flags)
            if read.old and conducted.source == MODEL and not conducted.refused:
                conducted = self._conduct.of_old(flagged, flags)
        answer = Answer(
            prediction=conducted.answer,
            prediction_id=new_id(at),
            version=version.name,
            arm=asked.arm,
            interval=conducted.interval,
            action=self._action(conducted.raw),
            verdict=verdicts[0].kind if verdicts else "pass",
            codes=[verdict.code for verdict in verdicts],
            features_age_s=age_s(read.state.known_until, at),
            features_lag_s=age_s(read.state.seen, at),
            degraded=[*read.degraded, CHALLENGER_FAILED] if asked.failed else read.degraded,
            source=conducted.source,
        )
        entry = self._entry(asked, read, raw, answer, conducted, verdicts, started)
        refused = conducted.refused
        return Drafted(answer, entry, _refusal(answer.prediction_id, verdicts, read.old) if refused else None)

    def _entry(
        self,
        asked: _Asked,
        read: Served,
        raw: float,
        answer: Answer,
        conducted: Conducted,
        verdicts: Sequence[Verdict],
        started: int,
    ) -> Predicted:
        request = asked.request
        low, high = answer.interval or (None, None)
        return Predicted(
            at=asked.at,
            id=answer.prediction_id,
            model=self.model.name,
            version=answer.version,
            arm=asked.arm,
            share=asked.share,
            unit=asked.unit,
            key=outcome_key([request[place] for place in self._key]),
            request=dict(zip(self._fields, request, strict=True)),
            features=dict(zip(self._names, read.values, strict=True)),
            prediction=raw,
            answer=answer.prediction,
            low=low,
            high=high,
            action=answer.action or "",
            verdict="refused" if conducted.refused else answer.verdict,
            reasons=[verdict.reason for verdict in verdicts] + [str(fault) for fault in read.old],
            position=read.state.serial,
            degraded=answer.degraded,
            cpu_us=(time.thread_time_ns() - started) // 1000,
            served_at=time.time_ns() // 1000,
            definitions=self._definitions,
            codes=answer.codes,
            source=answer.source,
            trace=asked.trace,
            phase=asked.phase,
        )

    def _assign(self, request: Sequence[Value], unit: str) -> tuple[str, float, LoadedVersion, str]:
        """Arm of a unit, its probability, the version that answers there, and the phase in which that counts.

        A request that takes no part is the champion's, with probability 1: one without a unit, outside the layer's part or
        the coverage, or not of those that `only=` names.
        """
        routing, champion = self.router.current, self._champion()
        if not unit or routing.arms is None or routing.challenger is None:
            return CHAMPION, 1.0, champion, ""
        if self._forced and (arm := self._forced.get(unit)):
            return arm, 1.0, champion if arm == CHAMPION else routing.challenger, FORCED
        if self._only is not None and not self._only(request)[0]:
            return CHAMPION, 1.0, champion, ""
        assigned = routing.arms.assign(unit)
        version = champion if assigned.arm == CHAMPION else routing.challenger
        return assigned.arm, assigned.probability, version, routing.phase if assigned.exposed else ""

    def _champion(self) -> LoadedVersion:
        champion = self.router.current.champion
        if champion is None:
            hint = f"GET /v1/status says what is wrong; icekeel train {self.model.name} makes a first version"
            raise StateError(Fault("no_champion", f'no version serves "{self.model.name}"', hint=hint))
        return champion

    def _check(self, asked: _Asked, raw: float) -> list[Verdict]:
        """What the guard finds, but for what people have taught."""
        guard = asked.version.guard
        if guard is None:
            return []
        verdicts = guard.check([asked.request[place] for place in asked.version.guarded], raw)
        return self._untaught(verdicts, asked, raw) if verdicts else verdicts

    def _untaught(self, verdicts: list[Verdict], asked: _Asked, raw: float) -> list[Verdict]:
        named = dict(zip(self._fields, asked.request, strict=True))
        return self.router.current.taught.remaining(verdicts, named, raw, asked.at)

    def _finish(self, raw: float, request: Sequence[Value]) -> float:
        answer = raw
        for step in self._after:
            found = step(request, answer)[0]
            answer = answer if found is None else found
        if not math.isfinite(answer):
            what = "the model gives no finite answer to these values"
            raise RequestError(Fault("not_finite", what, got=repr(answer)))
        return answer

    def _action(self, probability: float) -> str | None:
        if self.model.action is None:
            return None
        return self.model.action.name if probability > self._threshold else "none"


def age_s(since: int, at: int) -> float | None:
    """Seconds from one time to another, 0 where it is later; None where there is none."""
    return max(0.0, (at - since) / 1e6) if since else None


class _Asked(NamedTuple):
    """A request and who answers it: its values in field order, when it was asked, the caller's trace, its unit, that one's arm.

    `failed`: the champion answers in place of a challenger that could not.
    """

    request: Sequence[Value]
    at: int
    trace: str
    unit: str
    arm: str
    share: float
    version: LoadedVersion
    phase: str = ""
    failed: bool = False


class Drafted(NamedTuple):
    """An answer before it is given; `refusal` is given in its place where the guard refuses."""

    answer: Answer
    entry: Predicted
    refusal: RequestError | None


Draft = Drafted | RequestError
"""An answer before it is given, or why there is none."""
_NOTHING: list[Verdict] = []


def _unlogged(answer: Answer) -> Answer:
    return msgspec.structs.replace(answer, degraded=[*answer.degraded, UNLOGGED])


def _refusal(identifier: str, verdicts: Sequence[Verdict], old: Sequence[Fault]) -> RefusedError:
    return RefusedError(
        identifier,
        *old,
        *(
            Fault(
                "refused",
                "unlike anything in the training data: a person should decide",
                ", ".join(verdict.columns),
                verdict.code,
            )
            for verdict in verdicts
        ),
    )
