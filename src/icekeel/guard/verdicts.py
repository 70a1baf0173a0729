"""What the guard says about a request."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

VerdictKind = Literal[
    "pass",
    "unseen_value",
    "unseen_pair",
    "unseen_triple",
    "missing_combination",
    "out_of_range",
    "odd_prediction",
]
KINDS: tuple[VerdictKind, ...] = get_args(VerdictKind)[1:]
"""The kinds that flag a request; `pass` is for records of requests that none of them flagged."""


class Verdict(msgspec.Struct, frozen=True):
    """One way in which a request is unlike the training data.

    Attributes:
        code: `kind:column+column`, of a number with the side on which it lies: `out_of_range:quantity+product:above`.
            It names only the caller's own fields, so it may be shown to the caller.
        reason: A sentence for the operator. It tells of other customers' data: never shown to a caller.
        score: How unusual, on the scale of its kind: for `unseen_pair` and `missing_combination` the rows
            expected where none was seen, for `unseen_triple` the smallest of the three effects (log, log-odds
            or the target's own unit), for `out_of_range` and `odd_prediction` the distance outside in widths of the
            range (on the scale on which the range was learnt), for `unseen_value` 1.
    """

    kind: VerdictKind
    code: str
    reason: str
    columns: tuple[str, ...]
    score: float
