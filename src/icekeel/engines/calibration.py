"""Probabilities put right: a curve between what an engine says and what it ought to say."""

from __future__ import annotations

from bisect import bisect_right
from typing import Literal

import msgspec
import numpy as np

from icekeel.core.errors import BundleError, Fault
from icekeel.core.frames import Floats

from .links import from_link, to_link

CALIBRATION_FILE = "calibration.json"


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Straight lines between points of log-odds said (ascending) and log-odds meant; flat beyond the last.

    Attributes:
        method: `platt`, one line (Platt 1999), or `isotonic`, as many as ascending rates need (Zadrozny and Elkan 2002).
    """

    method: Literal["platt", "isotonic"]
    said: tuple[float, ...]
    meant: tuple[float, ...]

    def of(self, probability: float) -> float:
        """The probability that is meant."""
        score, said, meant = to_link("logit", probability), self.said, self.meant
        after = bisect_right(said, score)
        if after in (0, len(said)):
            return from_link("logit", meant[0] if after == 0 else meant[-1])
        before = after - 1
        share = (score - said[before]) / (said[after] - said[before])
        return from_link("logit", meant[before] + share * (meant[after] - meant[before]))

    def of_many(self, probabilities: Floats) -> Floats:
        """The same for an array, bit for bit."""
        return np.array([self.of(one) for one in probabilities.tolist()], dtype=np.float64)


def read_calibration(data: bytes) -> Calibration:
    """The curve as a bundle holds it.

    Raises:
        BundleError: it cannot be read, or its points do not ascend.
    """
    try:
        curve = msgspec.json.decode(data, type=Calibration)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BundleError(Fault("bad_calibration", str(error), CALIBRATION_FILE)) from error
    ascends = all(a < b for a, b in zip(curve.said, curve.said[1:], strict=False))
    if not curve.said or len(curve.said) != len(curve.meant) or not ascends:
        raise BundleError(Fault("bad_calibration", "points must ascend", CALIBRATION_FILE))
    return curve
