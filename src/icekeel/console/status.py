"""The status page: what serves, what was decided, what is wrong."""

from __future__ import annotations

from typing import Any

from icekeel.registry import Registry


def status_page(status: dict[str, Any], registry: Registry) -> str:
    """The page as HTML."""
    return "<!doctype html><title>Icekeel</title><pre>" + repr(status) + "</pre>"
