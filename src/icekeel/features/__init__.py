"""2, the feature store: one definition of a feature, the same numbers offline, online and in tests.

`plan` turns definitions into windows and functions; `offline` and `outcomes` answer for whole histories,
`live` for one request out of `online`, `given` inside a user's tests, all by the rules of `aggregates`. Knows
definitions, history and the kernel; not models, servers or who asks. Only the vocabulary stands here, so that
each engine is imported by those who run it: `icekeel.features.live` needs no DuckDB, `given` no LMDB.
"""

from .aggregates import Aggregate, Function, Span, View

__all__ = ["Aggregate", "Function", "Span", "View"]
