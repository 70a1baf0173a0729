"""A model: what is asked, from which features, what the truth is, and whether that can hold."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from copy import copy
from types import NoneType
from typing import Any, Literal

from icekeel.core.errors import Fault, nearest, shorten
from icekeel.core.kinds import Kind
from icekeel.core.time import DAY

from . import nodes
from .audits import Audits, audit_faults
from .conduct import conduct_faults, duration_faults, policy_faults, range_faults
from .estimators import FLAGS, NUMBERS, Estimator
from .experiments import Rollout, rollout_faults
from .expressions import Expression, Num, is_between, lift
from .features import FeaturesMeta
from .nodes import AskedAt, EventField, Invalid, Node, Outcome, RequestField, Windowed, broken, shallow, walk
from .policies import Act, After, Guard, History, Ladder, Mark, Money, Refuse, Retrain, Simplest, Stale, Watch
from .sources import source_faults
from .tables import RequestMeta


class Model:
    """A model of the project.

    Args:
        name: Name in paths and the registry.
        request: What a caller sends.
        features: The feature set.
        baseline: A smaller feature set, of the notebook kind; trained beside to tell what the features
            are worth, and the first champion where a rollout is declared.
        history: Past requests.
        target: Expression over outcomes; a flag makes a classifier, a number a regressor.
        error: `log_loss` for flags; `mape`, `mae` or `rmse` for numbers.
        choose: How much error simplicity is worth, and what is required whatever is simplest.
        ladder: Which candidates there are.
        model: An estimator that is tried beside the simplest model, instead of the ladder's own.
        after: Postprocessors, in order.
        action: What follows an answer, and what mistakes cost (flags only).
        influences: Whether the answer changes what happens afterwards, as a price or a recommendation does
            and a forecast does not. If it does, versions are compared by a split test, of metrics of outcomes; if not,
            on the same requests in shadow, by the cost of the answers or their error: the outcome would be the same.
        guard, stale, rollout, retrain, watch, audits: See their classes.
        unlogged: What is answered while the journal cannot be written: `ik.refuse()` answers with HTTP 503,
            `ik.mark()` answers and says `unlogged`; nobody can walk back from such an answer.
        about: What it does, in a sentence for somebody who has never heard of it: the first of its page.
        unit: Of the answers, `"$"` or `"min"`, for pages; empty for probabilities.
    """

    def __init__(
        self,
        name: str,
        request: Any,
        features: Any,
        *,
        history: History,
        target: Num,
        error: str,
        choose: Simplest,
        ladder: Ladder | None = None,
        baseline: Any = None,
        model: Estimator | None = None,
        after: list[After] | tuple[After, ...] = (),
        action: Act | None = None,
        influences: bool = False,
        guard: Guard | None = None,
        stale: Stale | None = None,
        rollout: Rollout | None = None,
        retrain: Retrain | None = None,
        watch: Watch | None = None,
        audits: Audits | None = None,
        unlogged: Refuse | Mark | None = None,
        about: str = "",
        unit: str = "",
    ) -> None:
        self.name = name
        self.about = about
        self.unit = unit
        self.request = request
        self.features = features
        self.baseline = baseline
        self.history = history
        self.target: Node = lift(target)
        self.error = error
        self.choose = choose
        self.model = model
        self.ladder = Ladder() if ladder is None else ladder
        self.after = tuple(after)
        self.action = action
        self.influences = influences
        self.guard = guard
        self.stale = Stale() if stale is None else stale
        self.rollout = rollout
        self.retrain = retrain
        self.watch = watch or Watch()
        self.audits = Audits() if audits is None else audits
        self.unlogged = Refuse() if unlogged is None else unlogged

    @property
    def task(self) -> Literal["number", "probability"]:
        """Whether answers are probabilities of a flag or numbers."""
        return "probability" if self.target.kind is Kind.FLAG else "number"

    @property
    def outcome(self) -> Outcome:
        """The one outcome that the target is made of."""
        return next(node for node in shallow(self.target) if isinstance(node, Outcome))

    def faults(self) -> list[Fault]:
        """Everything that cannot hold in this definition."""
        where = f'Model "{self.name}"'
        wrong = [*self._broken_arguments(where), *self._type_faults(where)]
        broken = {name for name, _ in wrong}
        broken |= {
            needs
            for needs, needed in (("after", "request"), ("audits", "request"), ("influences", "rollout"))
            if needed in broken
        }
        found = [fault for _, fault in wrong]
        found += [
            Fault("wrong_type", f"{name}= is a text", where, shorten(given))
            for name, given in (("about", self.about), ("unit", self.unit))
            if not isinstance(given, str)
        ]
        if not (isinstance(self.name, str) and self.name.isidentifier()):
            found.append(Fault("bad_name", "a model's name is an identifier", where, repr(self.name)))
        # The checks that follow rely on sound arguments: what stands in for the others has no fault of its own.
        sound = copy(self)
        vars(sound).update({name: value for name, value in _STAND_INS.items() if name in broken})
        for given in (sound.features, sound.baseline):
            if given is not None and not isinstance(given, FeaturesMeta):
                found.append(Fault("bad_features", "features= is a Features class", where, shorten(given)))
            elif given is not None and "request" not in broken:
                found += self.features_fit(where, given)
        found += sound._target_faults(where)
        if "error" not in broken:
            found += sound._error_faults(where)
        found += sound._policy_faults(where)
        return found

    def _broken_arguments(self, where: str) -> Iterator[tuple[str, Fault]]:
        """Faults of arguments that are themselves of something wrong, each with the name of its argument."""
        for name, value in vars(self).items():
            if isinstance(value, Expression) and isinstance(value.node, Invalid):
                yield from ((name, fault.inside(where)) for fault in value.node.faults)

    def _type_faults(self, where: str) -> list[tuple[str, Fault]]:
        """Arguments of the wrong type, each with its name."""
        broken = {name for name, _ in self._broken_arguments(where)}
        expected: list[tuple[str, object, tuple[type, ...], str]] = [
            ("history", self.history, (History,), "ik.table_of(...)"),
            ("choose", self.choose, (Simplest,), "ik.Simplest(within=ik.usd_per_year(...))"),
            ("ladder", self.ladder, (Ladder,), "ik.Ladder(...)"),
            ("action", self.action, (Act, NoneType), "ik.Act(...)"),
            ("guard", self.guard, (Guard, NoneType), "ik.Guard(...)"),
            ("stale", self.stale, (Stale,), "ik.Stale(...)"),
            ("rollout", self.rollout, (Rollout, NoneType), "ik.Rollout(...)"),
            ("retrain", self.retrain, (Retrain, NoneType), "ik.Retrain(...)"),
            ("watch", self.watch, (Watch,), "ik.Watch(...)"),
            ("audits", self.audits, (Audits,), "ik.Audits(...)"),
            ("unlogged", self.unlogged, (Refuse, Mark), "ik.mark(), ik.refuse()"),
            ("model", self.model, (Estimator, NoneType), "ik.sklearn(...)"),
            *(
                ("after", step, (After,), "ik.after(...), ik.floor(...), ik.round_to(...)")
                for step in self.after
            ),
        ]
        found = [
            (name, Fault("wrong_type", f"{name}= is of the wrong type", where, shorten(value), allowed))
            for name, value, types, allowed in expected
            if name not in broken and not isinstance(value, types)
        ]
        if isinstance(self.choose, Simplest) and not isinstance(within := self.choose.within, Money):
            what, allowed = "within= is of the wrong type", "ik.usd_per_year(...)"
            found.append(("choose", Fault("wrong_type", what, where, shorten(within), allowed)))
        if isinstance(self.history, History):
            found += [("history", fault) for fault in source_faults(f"{where}, history", self.history.source)]
        if "request" not in broken and not isinstance(self.request, RequestMeta):
            what = "the second argument is a Request class"
            found.append(("request", Fault("bad_request", what, where, shorten(self.request))))
        return found

    def features_fit(self, where: str, features: FeaturesMeta) -> list[Fault]:
        """Why these features cannot be features of this model's requests."""
        if not features.icekeel_features:
            return [Fault("no_features", f"{features.__name__} has no features", where)]
        found = []
        for feature in features.icekeel_features:
            for node in walk(feature.node):
                if isinstance(node, RequestField) and node.request != self.request.__name__:
                    place = f"{features.__name__}.{feature.name}"
                    got = f"{node.request}.{node.name}"
                    found.append(Fault("foreign_request", "a field of another request", place, got))
        return found

    def _target_faults(self, where: str) -> list[Fault]:
        found = [fault.inside(where) for fault in broken(walk(self.target))]
        outcomes = {node for node in shallow(self.target) if isinstance(node, Outcome)}
        if not found and len(outcomes) != 1:
            hint = 'Results.where(id=Request.id).within("30d").price.latest(absent=ik.UNKNOWN)'
            what, got = "target= is made of one outcome", f"{len(outcomes)} outcomes"
            found.append(Fault("bad_target", what, where, got, hint=hint))
        if any(
            isinstance(node, RequestField | AskedAt | Windowed | EventField) for node in shallow(self.target)
        ):
            found.append(Fault("bad_target", "target= is made of its outcome and constants alone", where))
        for outcome in outcomes:
            if not outcome.keyed.keys:
                found.append(Fault("bad_target", "an outcome is found by a key of the request", where))
        return found

    def _error_faults(self, where: str) -> list[Fault]:
        allowed = ("log_loss",) if self.task == "probability" else ("mape", "mae", "rmse")
        if self.error in allowed or self._target_faults(where):
            return []
        what = f"this error does not fit a {self.target.kind} target"
        near = nearest(str(self.error), allowed)
        return [Fault("bad_error", what, where, repr(self.error), ", ".join(allowed), near)]

    def _policy_faults(self, where: str) -> list[Fault]:
        found = []
        tolerance = self.choose.within.tolerance if self.choose.within.error_point else math.nan
        if not (math.isfinite(tolerance) and tolerance >= 0):
            found.append(
                Fault("bad_money", "a tolerance needs an amount >= 0 and an error point above 0", where)
            )
        if self.action is not None and (
            self.task != "probability" or min(self.action.missed, self.action.false) <= 0
        ):
            found.append(Fault("bad_action", "an action needs a flag target and two costs above 0", where))
        found += self._number_faults(where)
        found += self._ladder_faults(f"{where}, ladder")
        if self.guard is not None:
            found += conduct_faults(self, self.guard, f"{where}, guard")
        found += self._stale_faults(f"{where}, stale")
        found += audit_faults(self.audits, getattr(self.request, "__name__", ""), f"{where}, audits")
        if self.rollout is not None:
            named = {one.name: one for one in getattr(self.features, "icekeel_features", ())}
            request = getattr(self.request, "__name__", "")
            found += rollout_faults(self.rollout, request, named, f"{where}, rollout")
            measured = self.rollout.primary is not None or bool(self.rollout.not_worse)
            if measured and not (self.influences or self.rollout.split):
                what = "an answer that changes nothing moves no metric of outcomes"
                hint = "say influences=True, or ik.Rollout(split=True), or leave primary= and not_worse= out"
                found.append(Fault("needs_split", what, f"{where}, rollout", hint=hint))
        if self.influences and self.retrain is not None and self.rollout is None:
            what = "an answer that changes what happens is judged by a split test only"
            found.append(Fault("needs_rollout", what, where, hint="declare rollout=ik.Rollout(unit=...)"))
        if self.retrain is not None and self.retrain.every not in ("month", "week"):
            found += duration_faults(
                f"{where}, retrain", self.retrain.every, least=DAY, allowed='month, week, or days: "10d"'
            )
        for step in self.after:
            found += self._after_faults(f"{where}, after", step.node)
        if self.model is not None:
            found += self._estimator_faults(where, self.model)
        return found

    def _estimator_faults(self, where: str, model: Estimator) -> list[Fault]:
        found = [fault.inside(where) for fault in model.faults]
        allowed = FLAGS if self.task == "probability" else NUMBERS
        if not found and model.name not in allowed:
            kind = "flags" if self.task == "probability" else "numbers"
            what = f"this estimator does not learn {kind}"
            found.append(Fault("bad_estimator", what, where, model.name, ", ".join(allowed)))
        texts = [
            one.name for one in getattr(self.features, "icekeel_features", ()) if one.node.kind is Kind.TEXT
        ]
        if texts:
            what, hint = "an estimator reads no texts", "leave model= out: the ladder has a rung for texts"
            found.append(Fault("bad_estimator", what, where, ", ".join(texts), hint=hint))
        return found

    def _ladder_faults(self, where: str) -> list[Fault]:
        if self.ladder.trees in TREES:
            return []
        got, near = shorten(self.ladder.trees), nearest(str(self.ladder.trees), TREES)
        return [Fault("bad_trees", "no such trees", where, got, ", ".join(TREES), near)]

    def _stale_faults(self, where: str) -> list[Fault]:
        found = duration_faults(where, self.stale.after, allowed='"10m"')
        for place, policy in self.stale.policies():
            found += policy_faults(self, policy, place, where, "bad_stale")
        if not isinstance(self.stale.unreadable, Refuse | Mark):
            what, got = "unreadable= is a policy", shorten(self.stale.unreadable)
            found.append(Fault("bad_stale", what, where, got, "ik.mark(), ik.refuse()"))
        return found

    def _after_faults(self, where: str, node: Node) -> list[Fault]:
        below = list(walk(node))
        if found := [fault.inside(where) for fault in broken(below)]:
            return found
        own = ("", getattr(self.request, "__name__", ""))
        foreign: list[Node] = [
            one
            for one in below
            if not isinstance(one, nodes.Literal | nodes.Call)
            and not (isinstance(one, RequestField) and one.request in own)
        ]
        if foreign or node.kind not in (Kind.NUM, Kind.FLAG):
            what = "a postprocessor is a number made of the answer, the request and constants"
            found.append(Fault("bad_after", what, where, f"a {(foreign or [node])[0].kind}"))
        return found

    def _number_faults(self, where: str) -> list[Fault]:
        """Numbers of the policies that are out of range; each must be refused here, not at midnight."""
        choose, tune_s, alarms = self.choose, self.ladder.tune_s, self.watch.false_alarms_per_year
        limited: list[tuple[str, Any, float, float, str]] = [
            ("choose, group_worse", choose.group_worse, 0, 10, "above 0, below 10"),
            ("ladder, tune_s", tune_s, -1e-9, 86_400, "0 or more, below a day"),
        ]
        if choose.at_most is not None:
            limited.insert(0, ("choose, at_most", choose.at_most, 0, 1e300, "above 0"))
        if self.guard is not None:
            limited.append(("guard, budget", self.guard.budget, 0, 1, "0 to 1"))
        if self.retrain is not None:
            limited.append(("retrain, alpha", self.retrain.alpha, 0, 0.5, "between 0 and 0.5"))
            limited.append(("retrain, margin", self.retrain.margin, -1e-9, 1, "0 or more, below 1"))
        limited.append(("watch, false_alarms_per_year", alarms, 0, 365, "above 0, below 365"))
        return range_faults(
            where, ((place, got, is_between(low, got, high), said) for place, got, low, high, said in limited)
        )


TREES = ("lightgbm", "xgboost")
"""Libraries of the top rung."""

_STAND_INS: Mapping[str, Any] = {
    "features": None,
    "baseline": None,
    "choose": Simplest(within=Money(0.0, 1.0)),
    "ladder": Ladder(),
    "action": None,
    "influences": False,
    "guard": None,
    "stale": Stale(),
    "rollout": None,
    "retrain": None,
    "watch": Watch(),
    "audits": Audits(),
    "after": (),
    "model": None,
}
"""What an argument of the wrong type is taken for while the others are checked."""
