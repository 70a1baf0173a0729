"""Icekeel: a small team's whole production machine-learning system in one package.

`import icekeel as ik` gives the language of project files, and `ik.open_store` their features. Everything else is reached through the command
`icekeel` and the rooms of this package.
"""

from typing import TYPE_CHECKING, Any

from icekeel.core.errors import IcekeelError
from icekeel.define import *  # noqa: F403
from icekeel.define import __all__ as _language

if TYPE_CHECKING:
    from icekeel.features.given import World, given
    from icekeel.store import FeatureStore, open_store

__version__ = "0.1.0"
__all__ = [*_language, "FeatureStore", "IcekeelError", "World", "given", "open_store"]  # noqa: PLE0604  (names of the language room)


def __getattr__(name: str) -> Any:
    # Testing features needs NumPy, reading them a store; reading a project file needs neither.
    if name in ("given", "World"):
        from icekeel.features import given as module

        return getattr(module, name)
    if name in ("open_store", "FeatureStore"):
        from icekeel import store

        return getattr(store, name)
    raise AttributeError(f"module 'icekeel' has no attribute {name!r}")
