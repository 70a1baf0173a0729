"""Icekeel: a small team's whole production machine-learning system in one package.

`import icekeel as ik` gives the language of project files, and `ik.open_store` their features. Everything else is reached through the command
`icekeel` and the rooms of this package.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from icekeel.core.errors import IcekeelError
    from icekeel.define import *  # noqa: F403
    from icekeel.define import __all__ as _language
    from icekeel.features.given import World, given
    from icekeel.store import FeatureStore, open_store

    __all__ = [*_language, "FeatureStore", "IcekeelError", "World", "given", "open_store"]  # noqa: PLE0604  (names of the language room)

__version__ = "0.1.0"
_ELSEWHERE = {
    "IcekeelError": "core.errors",
    "given": "features.given",
    "World": "features.given",
    "open_store": "store",
    "FeatureStore": "store",
}


def __getattr__(name: str) -> Any:
    # Loaded when first asked for: the command begins sooner without the language, a project file without NumPy, and
    # Ctrl-C is caught meanwhile.
    if name in _ELSEWHERE:
        return getattr(import_module(f"icekeel.{_ELSEWHERE[name]}"), name)
    language = import_module("icekeel.define")
    if name == "__all__":
        return sorted([*language.__all__, *_ELSEWHERE])
    if name in language.__all__:
        return getattr(language, name)
    raise AttributeError(f"module 'icekeel' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__getattr__("__all__")])
