"""Which arm a unit belongs to: a salted hash, so that nothing has to be stored and nobody moves."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate

from icekeel.core.errors import Fault, ProjectError
from icekeel.core.ids import unit_interval


@dataclass(frozen=True, slots=True)
class Arm:
    """One of the alternatives, with its share of the exposed units."""

    name: str
    share: float


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where a unit belongs.

    Attributes:
        arm: The arm that answers.
        probability: Chance that this arm was drawn, given `exposed`; what the journal keeps.
        exposed: Whether the unit takes part; analysis uses exposed units only.
    """

    arm: str
    probability: float
    exposed: bool


@dataclass(frozen=True, slots=True)
class Arms:
    """The arms of one model.

    A unit takes part when `hash(exposure_salt, unit) < coverage`; then `hash(arm_salt, unit)` picks the
    arm. The two hashes are independent, so raising the coverage adds units and moves nobody who is in.
    A ramp therefore raises `coverage` and leaves the shares alone. Units outside get the first arm.

    Attributes:
        salt: Name of this experiment; another salt draws everybody anew.
        arms: The first is the one that stands now (the champion).
        coverage: Share of all units that take part, in [0, 1].
        layer: Experiments of one layer share its hash, so that parts which do not overlap have no unit in common;
            layers of different names are independent.
        part: Of the layer, `[start, end)` within [0, 1]; the coverage is of the units in it.

    Raises:
        ProjectError: no arms, a name twice, a share below 0, shares that do not sum to 1, a coverage
            outside [0, 1], or a part that is none; all at once.
    """

    salt: str
    arms: tuple[Arm, ...]
    coverage: float = 1.0
    layer: str = ""
    part: tuple[float, float] = (0.0, 1.0)
    _ends: tuple[float, ...] = field(init=False, repr=False, compare=False)
    _known: tuple[Assignment, ...] = field(init=False, repr=False, compare=False)
    _outside: Assignment = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if faults := self._faults():
            raise ProjectError(*faults)
        ends = list(accumulate(arm.share for arm in self.arms))
        last = max(place for place, arm in enumerate(self.arms) if arm.share > 0)
        ends[last:] = [1.0] * (len(ends) - last)  # rounding of the sum must not leave a gap below 1
        object.__setattr__(self, "_ends", tuple(ends))
        object.__setattr__(self, "_known", tuple(Assignment(arm.name, arm.share, True) for arm in self.arms))
        object.__setattr__(self, "_outside", Assignment(self.arms[0].name, 1.0, False))

    @classmethod
    def ramp(
        cls,
        salt: str,
        names: tuple[str, str],
        share: float,
        layer: str = "",
        part: tuple[float, float] = (0.0, 1.0),
        *,
        even: bool = True,
    ) -> Arms:
        """Two arms of which the second gets `share` of all units.

        Args:
            even: Whether the arms are equally large up to a half and the coverage grows with the share. Then nobody who is
                in moves from step to step, and no arm is so small that its luck would look like harm. Otherwise all units
                take part, which says more of a share that is never raised.
        """
        second = max(0.5, share) if even else share
        arms = (Arm(names[0], 1 - second), Arm(names[1], second))
        return cls(salt, arms, min(1.0, share / second), layer, part)

    def assign(self, unit: str) -> Assignment:
        """The arm of `unit`: the same in every process, for as long as the salt and the shares stand."""
        start, end = self.part
        if end - start < 1.0 and not start <= unit_interval(self.layer + "/layer", unit) < end:
            return self._outside
        if self.coverage < 1.0 and unit_interval(self.salt + "/exposure", unit) >= self.coverage:
            return self._outside
        return self._known[bisect_right(self._ends, unit_interval(self.salt + "/arm", unit))]

    def _faults(self) -> list[Fault]:
        names = [arm.name for arm in self.arms]
        shares = [arm.share for arm in self.arms]
        where = f"arms of {self.salt}"
        faults = []
        if not names or len(set(names)) < len(names):
            faults.append(Fault("bad_arms", "expected at least one arm, each name once", where, repr(names)))
        if not all(share >= 0 for share in shares) or not math.isclose(sum(shares), 1.0, abs_tol=1e-9):
            faults.append(Fault("bad_shares", "expected shares that sum to 1", where, repr(shares), "0 to 1"))
        if not 0 <= self.coverage <= 1:
            faults.append(
                Fault("bad_coverage", "expected a share of units", where, repr(self.coverage), "0 to 1")
            )
        if not 0 <= self.part[0] < self.part[1] <= 1:
            faults.append(Fault("bad_part", "expected a part of the layer", where, repr(self.part), "0 to 1"))
        return faults
