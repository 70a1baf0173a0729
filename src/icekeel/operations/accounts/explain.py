"""Why an answer is what it is, for a person: the sentence, the main reasons, and the past cases most like it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from icekeel.core.time import format_time
from icekeel.define import Model
from icekeel.engines import Explained, Interval, load_engine
from icekeel.engines.similar import SIMILAR_FILE, Case, SimilarCases
from icekeel.journal import Predicted, Value
from icekeel.registry import INTERVAL_FILE, Registry, read

CASES = 10
MOST_REASONS = 4
MAIN = 0.8
"""Share of all that moved the answer which the main reasons make up, unless they are too many."""
MODEL, REFUSED = "model", "refused"
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


class Reason(msgspec.Struct, frozen=True):
    """What one feature, or features that act together, did to the model's answer.

    Attributes:
        feature: Its name; names of features that act together are joined by ` x `.
        value: Theirs; empty for a word of a text, which the name holds.
        effect: Against an average request: as a factor less 1 where `unit` is `share`, in points of probability
            (0.12 is 12 points) where it is `points`, in units of the target where it is `amount`.
    """

    feature: str
    value: str
    effect: float
    unit: str

    def __str__(self) -> str:
        points = 100 * self.effect
        change = (
            f"{self.effect:+,.4g}"
            if self.unit == "amount"
            else f"{points:+,.{0 if abs(points) >= 1 else 1}f}"
        )
        ending = {"share": " %", "points": " points", "amount": ""}[self.unit]
        return f"{' '.join(part for part in (self.feature, self.value) if part)} ({change}{ending})"


class Alike(msgspec.Struct, frozen=True):
    """A similar past case: what it was called, when it was asked, what came of it, its request."""

    id: str
    asked_at: int
    outcome: float
    request: dict[str, Value]


class Explanation(msgspec.Struct, frozen=True):
    """One answer, explained. It tells of other customers' cases: for those who run the system.

    Attributes:
        sentence: All of it for a person.
        answer: What the caller got; None where it was refused.
        prediction: What the model said, before the postprocessors.
        source: What gave the answer: `model`, or the fall-back that stood in.
        findings: The guard's, as sentences.
        degraded: What the features lacked.
        reasons: The main ones of the model's prediction, the largest first.
        similar: The past cases most like this one, the most similar first.
        far: Whether these are farther off than the most similar cases of a request usually are.
    """

    sentence: str
    prediction_id: str
    model: str
    version: str
    asked_at: int
    answer: float | None
    low: float | None
    high: float | None
    prediction: float
    source: str
    verdict: str
    findings: list[str]
    degraded: list[str]
    reasons: list[Reason]
    similar: list[Alike]
    far: bool

    def rows(self) -> list[dict[str, Value]]:
        """The similar cases as a table."""
        return [
            {"case": one.id, "asked_at": format_time(one.asked_at), "outcome": one.outcome, **one.request}
            for one in self.similar
        ]


def explain(record: Predicted, model: Model, registry: Registry, bundles: Path) -> Explanation:
    """The explanation of an answer, by the version that gave it.

    Raises:
        RegistryError, BundleError: that version is gone, or its bundle is damaged.
    """
    files = read(bundles, registry.version(record.version).digest).files
    engine = load_engine(files)
    explained = engine.explain([record.features.get(column.name) for column in engine.columns])
    reasons = main_reasons(explained, record.features, probability=model.task == "probability")
    nearest, far = _nearest(record, files)
    parts = [
        _answered(record, model, files),
        *([f"The guard: {'; '.join(record.reasons)}."] if record.reasons else []),
        *([f"Its features lacked something: {', '.join(record.degraded)}."] if record.degraded else []),
        _alike(nearest, model, far=far),
        _because(reasons, record),
    ]
    return Explanation(
        sentence=" ".join(part for part in parts if part),
        prediction_id=record.id,
        model=record.model,
        version=record.version,
        asked_at=record.at,
        answer=None if record.verdict == REFUSED else record.answer,
        low=record.low,
        high=record.high,
        prediction=record.prediction,
        source=record.source,
        verdict=record.verdict,
        findings=record.reasons,
        degraded=record.degraded,
        reasons=reasons,
        similar=[Alike(case.id, case.asked_at, case.outcome, case.request) for case in nearest],
        far=far,
    )


def _nearest(record: Predicted, files: Mapping[str, bytes]) -> tuple[Sequence[Case], bool]:
    """The past cases most like it, and whether these are far; none where the version keeps none, as older ones."""
    if SIMILAR_FILE not in files:
        return [], False
    cases = SimilarCases.load(files)
    nearest = cases.nearest([record.features.get(column.name) for column in cases.columns], CASES)
    return nearest, cases.far(nearest)


def main_reasons(explained: Explained, features: Mapping[str, Value], *, probability: bool) -> list[Reason]:
    """The reasons that matter, the largest first."""
    unit = "share" if explained.scale == "exp" else "points" if probability else "amount"
    sizes = {names: abs(amount) for names, amount in explained.added}
    whole, so_far = sum(sizes.values()), 0.0
    found: list[Reason] = []
    for names, effect in explained.effects()[:MOST_REASONS]:
        if so_far >= MAIN * whole:
            break
        so_far += sizes[names]
        # What a word of a text added has no value of its own.
        value = " x ".join(_shown(features[name]) for name in names if name in features)
        found.append(Reason(" x ".join(names), value, effect, unit))
    return found


def _answered(record: Predicted, model: Model, files: Mapping[str, bytes]) -> str:
    """What was answered, and by what."""

    def said(value: float) -> str:
        return f"{100 * value:.0f} %" if model.task == "probability" else number(value)

    about = f"{model.name} of {record.key}" if record.key else model.name
    if record.verdict == REFUSED:
        return f"{about}: refused; {record.version} would have said {said(record.answer)}."
    if record.source != MODEL:
        between = (
            ""
            if record.low is None or record.high is None
            else f" ({said(record.low)} to {said(record.high)})"
        )
        by = f"from {record.source}{between}, in place of {record.version}, which said {said(record.prediction)}"
        return f"{about}: {said(record.answer)} {by}."
    between = ""
    if record.low is not None and record.high is not None and INTERVAL_FILE in files:
        coverage = msgspec.json.decode(files[INTERVAL_FILE], type=Interval).coverage
        between = f", ordinarily {said(record.low)} to {said(record.high)} ({100 * coverage:.0f} in 100)"
    action = f"; action: {record.action}" if record.action not in ("", "none") else ""
    return f"{about}: {said(record.answer)} by {record.version}{between}{action}."


def _alike(cases: Sequence[Case], model: Model, *, far: bool) -> str:
    """What came of similar cases."""
    if not cases:
        return ""
    many = _WORDS[len(cases)] if len(cases) < len(_WORDS) else str(len(cases))
    outcomes = [case.outcome for case in cases]
    if model.task == "probability":
        came = f"of the {many} nearest {sum(outcome > 0.5 for outcome in outcomes)} came true"
    else:
        came = f"the {many} nearest came to {number(min(outcomes))} to {number(max(outcomes))}"
    if far:
        return f"No past case is really like it; {came}."
    return f"{came[0].upper()}{came[1:]}.".replace("nearest", "most similar past cases")


def _because(reasons: Sequence[Reason], record: Predicted) -> str:
    if not reasons:
        return ""
    whose = "" if record.source == MODEL and record.verdict != REFUSED else f" of what {record.version} said"
    return f"Main reasons{whose}, against an average request: {', '.join(map(str, reasons))}."


def _shown(value: Value) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "missing"
    return value if isinstance(value, str) else number(float(value))


def number(value: float | None) -> str:
    """With thousands, and as many decimals as say something."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.4g}"
