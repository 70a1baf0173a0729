"""Which rungs there are, from simple to complex."""

from __future__ import annotations

from icekeel.core.errors import Fault, TrainingError, nearest
from icekeel.core.kinds import Kind
from icekeel.define import Model
from icekeel.engines.encoder import CODED

from .boosting import LightGBM
from .estimators import Sklearn
from .group import GroupTable
from .linear import Linear
from .rungs import Rung
from .texts import Texts


def full_ladder(model: Model, threads: int = 1) -> tuple[Rung, ...]:
    """Every rung of a model, from simple to complex: those that can read something of its features."""
    kinds = {feature.node.kind for feature in model.features.icekeel_features}
    if model.model is not None:
        return GroupTable(), Sklearn(model.model, threads)
    texts: tuple[Rung, ...] = (Texts(),) if Kind.TEXT in kinds else ()
    if not kinds & set(CODED):
        return GroupTable(), *texts
    return GroupTable(), Linear(), *texts, LightGBM(threads=threads)


def rungs_up_to(model: Model, name: str, threads: int = 1) -> tuple[Rung, ...]:
    """The simplest rung and the one named: what a scheduled retrain fits.

    Raises:
        TrainingError: the model has no such rung.
    """
    ladder = full_ladder(model, threads)
    chosen = [rung for rung in ladder if rung.name == name]
    if not chosen:
        names = [rung.name for rung in ladder]
        raise TrainingError(
            Fault("unknown_rung", "no such rung", "", name, ", ".join(names), nearest(name, names))
        )
    return (chosen[0],) if chosen[0].name == ladder[0].name else (ladder[0], chosen[0])
