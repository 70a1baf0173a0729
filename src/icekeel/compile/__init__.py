"""Definitions into functions: one expression tree, a Python closure for one row, DuckDB SQL for many.

Both targets give the same bits. This room knows nothing of where rows come from or what becomes of the results.
"""

from .closure import Row, compile_event, compile_row, request_leaf
from .sql import event_leaf, literal, quote, select

__all__ = ["Row", "compile_event", "compile_row", "event_leaf", "literal", "quote", "request_leaf", "select"]
