"""What a change of who serves must satisfy, and what a history of changes comes to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from icekeel.core.errors import Fault

from .records import Change, Version

CHAMPION = "champion"


def promoted(history: Sequence[Change]) -> list[str]:
    """The champions a roll-back can go through, the present one last."""
    past: list[str] = []
    for change in history:
        if change.alias != CHAMPION:
            continue
        if change.action == "rollback":
            past.pop()
        elif not past or past[-1] != change.version:
            past.append(change.version)
    return past


def misfits(model: str, version: Version, share: float) -> Iterator[Fault]:
    """Why a version cannot serve so."""
    if version.model != model:
        yield Fault("wrong_model", "a version of another model", version.name, version.model, model)
    if not 0.0 <= share <= 1.0:
        yield Fault("bad_share", "expected a share of the traffic", "share", f"{share:g}", "0 to 1")


def unreasoned(reason: str) -> Iterator[Fault]:
    """That nobody said why."""
    if not reason.strip():
        yield Fault("no_reason", "a change needs a reason", "reason", f'"{reason}"')


def failures(version: Version) -> Iterator[Fault]:
    """Every gate that was not passed."""
    for gate in version.failed:
        hint = "mend it and train again, or give an override with its reason"
        yield Fault("gate_failed", "a gate that was not passed", f"{version.name}.{gate}", hint=hint)
