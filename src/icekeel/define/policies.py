"""The rules that a model lives under: where its history is, what simplicity is worth, who decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from icekeel.core.errors import Fault, shorten

from .expressions import Num, is_number, lift
from .functions import greatest
from .nodes import ANSWER, Invalid, Node
from .sources import Source


@dataclass(frozen=True, slots=True)
class History:
    """Past requests: where rows of request fields and the time each was asked come from."""

    source: Source
    asked_at: str


def table_of(request: Any, source: Source, *, asked_at: str) -> History:
    """Past requests from files relative to the project, object storage or a database.

    Args:
        request: The request class whose fields the file's columns are.
        source: A Parquet, CSV or JSON-lines file, a glob, a URL such as "s3://shop/quotes.parquet", or `ik.sql(...)`.
        asked_at: Column that tells when the question was asked.
    """
    del request  # stated for the reader; the model checks the columns against its own request
    return History(source, asked_at)


@dataclass(frozen=True, slots=True)
class Money:
    """A tolerance of error, stated as money a year."""

    per_year: float
    error_point: float

    @property
    def tolerance(self) -> float:
        """The same in units of the error: one error point is 0.01."""
        return self.per_year / self.error_point * 0.01


def usd_per_year(amount: float, *, error_point: float) -> Money:
    """How much error may be given away for simplicity.

    Args:
        amount: Dollars a year that a simpler model may cost.
        error_point: Dollars a year that 0.01 of error costs.
    """
    return Money(amount, error_point)


@dataclass(frozen=True, slots=True)
class Simplest:
    """Choose the simplest rung whose error lies within a tolerance of the best.

    Attributes:
        at_most: The error above which no version may serve, in the error's unit (a share for `mape`), on the latest
            rows of its backtest; None: there is no such requirement.
        group_worse: How much worse than the champion a version may be for any group of requests, as a share of the
            champion's error there.
    """

    within: Money
    at_most: float | None = None
    group_worse: float = 0.1


@dataclass(frozen=True, slots=True)
class Ladder:
    """What the candidates are.

    Attributes:
        trees: The library of the top rung.
        tune_s: Seconds of one core in which better settings of the trees are looked for, before the first backtest and
            on rows earlier than it tests; counted by the work there is to do, so that the same data give the same
            settings on every machine. 0: none are looked for.
    """

    trees: Literal["lightgbm", "xgboost"] = "lightgbm"
    tune_s: float = 0.0


@dataclass(frozen=True, slots=True)
class After:
    """Postprocessor: what an answer becomes, an expression over `ANSWER` and the request; where it is null the answer stays."""

    node: Node


def after(step: Callable[[Num], Num | float]) -> After:
    """Make something else of the answer.

    Args:
        step: Given the answer, the expression that it becomes: `lambda price: ik.least(price, 2 * Quote.list_price)`. It is
            called once, when the project is read; what is kept is the expression.
    """
    return After(lift(step(Num(ANSWER))))


def floor(value: Num | float) -> After:
    """Never answer below `value`, an expression over the request."""
    return after(lambda answer: greatest(answer, value))


def round_to(step: float) -> After:
    """Answer in multiples of `step`, the nearest, halves away from zero."""
    if not (is_number(step) and step > 0):
        fault = Fault("bad_step", "round_to= needs a step above 0", got=shorten(step))
        return After(Invalid((fault,)))
    return after(lambda answer: (answer / step).round() * step)


@dataclass(frozen=True, slots=True)
class Act:
    """What follows an answer that is a probability, and what its two mistakes cost.

    The action is taken where it is cheaper: `p * missed > (1 - p) * false`, that is above
    `false / (false + missed)` (Elkan 2001, "The foundations of cost-sensitive learning", eq. 2).

    Attributes:
        name: What is done: `warn`.
        missed: Cost of not acting when the target comes true.
        false: Cost of acting when it does not.
    """

    name: str
    missed: float
    false: float

    @property
    def threshold(self) -> float:
        """The probability above which acting is cheaper."""
        return self.false / (self.false + self.missed)


@dataclass(frozen=True, slots=True)
class Refuse:
    """A policy: no answer. HTTP 422 with the code where the guard says so, a person decides; 503 for `Stale`."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A policy: answer, and say why one should not in the answer and in the journal."""


@dataclass(frozen=True, slots=True)
class SimilarCases:
    """A fall-back: what came of the past requests most like this one, their median, mean or rate.

    Attributes:
        k: How many; 0 for as many as did best on later requests when the version was trained.
        otherwise: Where no past request is really like this one, or there are fewer than `k`.
    """

    k: int
    otherwise: Policy


@dataclass(frozen=True, slots=True)
class RuleOfThumb:
    """A fall-back: an expression over the request and the model's features.

    Attributes:
        otherwise: Where the expression is null.
    """

    node: Node
    otherwise: Policy


@dataclass(frozen=True, slots=True)
class LastChampion:
    """A fall-back: the version that was champion before this one answers.

    Attributes:
        otherwise: Where there is none, or its guard finds something too.
    """

    otherwise: Policy


Policy: TypeAlias = Refuse | Mark | SimilarCases | RuleOfThumb | LastChampion
POLICIES = (Refuse, Mark, SimilarCases, RuleOfThumb, LastChampion)
KINDS = (
    *("unseen_value", "unseen_pair", "unseen_triple", "missing_combination"),
    *("out_of_range", "odd_prediction"),
)
"""What the guard may find, see `icekeel.guard.KINDS`."""


def refuse() -> Refuse:
    """Refuse: a request unlike anything in the training data or with a stale key (HTTP 422), or with stale windows (503)."""
    return Refuse()


def mark() -> Mark:
    """Answer, and say that the request is unlike anything in the training data, or its windows stale."""
    return Mark()


def similar_cases(*, k: int = 0, otherwise: Policy | None = None) -> SimilarCases:
    """Answer with what came of the `k` most similar past requests; `otherwise` (refuse) where none is similar."""
    return SimilarCases(k, otherwise or Refuse())


def rule_of_thumb(value: Num | float, *, otherwise: Policy | None = None) -> RuleOfThumb:
    """Answer with an expression over the request and the model's features; `otherwise` (refuse) where it is null."""
    return RuleOfThumb(lift(value), otherwise or Refuse())


def last_champion(*, otherwise: Policy | None = None) -> LastChampion:
    """Let the champion before this one answer; `otherwise` (refuse) where its guard finds something too."""
    return LastChampion(otherwise or Refuse())


@dataclass(frozen=True, slots=True)
class Guard:
    """A check of each request against what the training data hold.

    Attributes:
        budget: Share of ordinary requests that may be flagged, all kinds of check together.
        otherwise: What happens to a flagged request.
        kinds: What happens to one with a finding of this kind instead; of several findings the strictest counts.
        above: An amount at stake, and what happens from there on whatever the finding.
        stake: What is at stake: an expression over the request. By default the answer that would be given, or the
            model's where that is larger, for numbers, and the larger mistake of the action for probabilities.
        review: How long what people accept is ordinary, `"30d"`; flagged requests then wait for a person for so long.
            None: there is no queue.
    """

    budget: float = 0.01
    otherwise: Policy = field(default_factory=Mark)
    kinds: Mapping[str, Policy] = field(default_factory=dict)
    above: tuple[float, Policy] | None = None
    stake: Num | float | None = None
    review: str | None = None

    def policies(self) -> Iterator[tuple[str, Any]]:
        """Every policy that is named, those that follow from another too, and where."""
        yield from unfolded(
            ("otherwise", self.otherwise),
            *((f'kinds["{kind}"]', policy) for kind, policy in self.kinds.items()),
            *([("above", self.above[1])] if self.above is not None else []),
        )


def unfolded(*named: tuple[str, Any]) -> Iterator[tuple[str, Any]]:
    """Policies and those that follow from them, each with where it stands."""
    waiting = list(named)
    while waiting:
        where, policy = waiting.pop(0)
        yield where, policy
        if isinstance(policy, SimilarCases | RuleOfThumb | LastChampion):
            waiting.append((f"{where}.otherwise", policy.otherwise))


@dataclass(frozen=True, slots=True)
class Stale:
    """What is answered while the windows are older than they should be, or cannot be read.

    Attributes:
        after: How long the keeper may be behind. One that runs is so by a second, one that was started again by some.
        otherwise: Beyond that, and where what the features read is older than `fresh=` of its table allows (`error`).
            `ik.mark()` answers and says `keeper_behind`, `stale:TABLE` or `stale:TABLE.COLUMN` (a key). `ik.refuse()` gives
            HTTP 503 where the keeper is behind or a whole table is stale, and where a key is, 422 to requests of it. A
            fall-back answers instead: `ik.similar_cases()`, `ik.rule_of_thumb(...)`, `ik.last_champion()`.
        unreadable: Where there are no windows, or damaged ones: `ik.refuse()`, or `ik.mark()`, which answers as if no
            event had ever been seen (`empty=` of each window) and says `windows_unreadable`.
    """

    after: str = "10s"
    otherwise: Policy = field(default_factory=Mark)
    unreadable: Refuse | Mark = field(default_factory=Refuse)

    def policies(self) -> Iterator[tuple[str, Any]]:
        """Every policy of what is too old, those that follow from another too, and where."""
        return unfolded(("otherwise", self.otherwise))


@dataclass(frozen=True, slots=True)
class Retrain:
    """When the champion's rung is fitted again, and how the new version is judged.

    Attributes:
        every: `month`, `week`, or a duration.
        on_alarm: Whether an alarm about the model's error also retrains.
        margin: A retrained version is promoted when paired answers in shadow show that its cost is not
            worse than the champion's by more than this share.
        alpha: Chance of promoting one that is worse by more than the margin.
    """

    every: str = "month"
    on_alarm: bool = True
    margin: float = 0.02
    alpha: float = 0.1


@dataclass(frozen=True, slots=True)
class Watch:
    """What monitoring may cost.

    Attributes:
        false_alarms_per_year: The one budget that all detectors of the model share.
        segments: Categories of the request by whose values the predictions are watched; by default every one that is
            not private. Of each the four most frequent values that have 200 past rows and a fiftieth of all.
    """

    false_alarms_per_year: float = 4.0
    segments: tuple[Any, ...] = ()
