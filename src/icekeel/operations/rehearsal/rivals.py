"""Versions that challenge the champion in a rehearsal, and how they are put up and taken away again."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from icekeel.define import Model
from icekeel.registry import CHALLENGER, CHAMPION, Registry

from .system import System

BY = "rehearsal"
SIMPLEST = "group"
"""The rung of the worse version: a table of averages."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What an act has to work on: the processes, the registry of the copy, the virtual time, and whether versions are tried."""

    system: System
    registry: Registry
    model: Model
    at: int
    canary: bool = True

    @property
    def bundles(self) -> Path:
        """What the versions of the copy are made of."""
        return self.system.folder / ".icekeel" / "bundles"


def challenge(ground: Ground, kind: str) -> None:
    """Put up a challenger that is better than the champion, equal to it, worse, or broken."""
    best, equal, worse = (version.name for version in ground.registry.versions(ground.model.name)[:3])
    if kind == "better":
        _set(ground, CHAMPION, worse, 1.0)
    if kind == "broken":
        _break(ground, equal)
    challenger = {"better": best, "equal": equal, "worse": worse, "broken": equal}[kind]
    rollout = ground.model.rollout
    if not ground.canary:  # whatever is new serves at once
        _set(ground, CHAMPION, challenger, 1.0)
    elif rollout is not None:
        _set(ground, CHALLENGER, challenger, float(rollout.stages[0]))


def settle(ground: Ground) -> None:
    """Take the challenger away, make it whole, and let the best version be champion again."""
    for folder in _whole(ground).glob("*"):
        shutil.rmtree(ground.bundles / folder.name)
        folder.rename(ground.bundles / folder.name)
    model = ground.model.name
    aliases = ground.registry.aliases(model)
    if CHALLENGER in aliases:
        ground.registry.drop_alias(model, CHALLENGER, reason="the fault is over", by=BY, at=ground.at)
    best = ground.registry.versions(model)[0].name
    if aliases[CHAMPION].version != best:
        _set(ground, CHAMPION, best, 1.0)


def _set(ground: Ground, alias: str, version: str, share: float) -> None:
    ground.registry.set_alias(
        ground.model.name,
        alias,
        version,
        share=share,
        reason="rehearsed",
        by=BY,
        override="a rehearsal",
        at=ground.at,
    )


def _break(ground: Ground, version: str) -> None:
    """Damage each file of a version's bundle; `settle` makes it whole."""
    folder = ground.bundles / ground.registry.version(version).digest[:16]
    shutil.copytree(folder, _whole(ground) / folder.name)
    for file in folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            file.chmod(0o600)
            file.write_bytes(content[: len(content) // 2])


def _whole(ground: Ground) -> Path:
    return ground.system.folder / "whole"
