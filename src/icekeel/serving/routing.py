"""Which version answers whom, now; replaced as a whole between two requests."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from icekeel.core.errors import BundleError, RegistryError
from icekeel.define import Layer, Rollout
from icekeel.experiments import Arms
from icekeel.features.plan import Plan
from icekeel.registry import CHALLENGER, CHAMPION, Alias, Registry

from .teaching import Taught
from .versions import LoadedVersion, load_version

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Routing:
    """The versions that answer.

    Attributes:
        revision: State of the registry it was made from.
        champion: Answers everybody the challenger does not.
        challenger: Answers its share of the units; None without an experiment.
        arms: How units are split; None without an experiment.
        phase: Name of the stretch in which they stand as they do, see `phase`; empty without an experiment.
        problems: Aliases that could not be followed, and why; what served before goes on.
        taught: What people have accepted of what the guard flags.
        previous: The champion before this one, where a fall-back may ask it.
    """

    revision: int
    champion: LoadedVersion | None
    challenger: LoadedVersion | None = None
    arms: Arms | None = None
    problems: Mapping[str, str] | None = None
    taught: Taught = field(default_factory=Taught)
    previous: LoadedVersion | None = None
    phase: str = ""


def phase(challenger: Alias) -> str:
    """Name of the stretch in which a challenger has its present share, as the journal has it beside each exposure."""
    return f"{challenger.salt}@{challenger.share:g}"


class Router:
    """Keeps the routing of one model up to date with the registry; `current` is replaced as a whole.

    Args:
        model: Its name.
        registry: Where aliases are set.
        bundles: Folder of the bundles.
        plan: Its features and fields.
        previous: Whether the champion before is kept ready too.
        rollout: How its challengers are tried: which units take part.
    """

    def __init__(
        self,
        model: str,
        registry: Registry,
        bundles: Path,
        plan: Plan,
        *,
        previous: bool = False,
        rollout: Rollout | None = None,
    ) -> None:
        self._rollout = rollout or Rollout(None)
        self._keeps_previous = previous
        self.model = model
        self._registry = registry
        self._bundles = bundles
        self._plan = plan
        self._loaded: dict[str, LoadedVersion] = {}
        self.current = Routing(-1, None)

    def refresh(self, *, again: bool = False) -> bool:
        """Follow the registry; gives whether anything changed.

        A version that cannot be loaded is not served: the champion before it goes on, an experiment stops.

        Args:
            again: Try once more what could not be loaded, although the registry says nothing new.
        """
        revision = self._registry.changed()
        if revision == self.current.revision and not (again and self.current.problems):
            return False
        aliases = self._registry.aliases(self.model)
        problems: dict[str, str] = {}
        champion = self._load(aliases.get(CHAMPION), CHAMPION, problems) or self.current.champion
        challenger = self._load(aliases.get(CHALLENGER), CHALLENGER, problems)
        previous = self._previous(problems) if self._keeps_previous else None
        arms, now = None, ""
        if challenger is not None and champion is not None:
            alias = aliases[CHALLENGER]
            layer, now = self._rollout.layer or Layer(""), phase(alias)
            part = layer.start, layer.end
            names, even = (CHAMPION, CHALLENGER), self._rollout.even
            arms = Arms.ramp(alias.salt, names, alias.share, layer.name, part, even=even)
        before = self.current
        self._loaded = {
            version.name: version for version in (champion, challenger, previous) if version is not None
        }
        taught = Taught(self._registry.reviews(self.model))
        self.current = Routing(
            revision, champion, challenger if arms else None, arms, problems or None, taught, previous, now
        )
        return (before.champion, before.challenger, before.arms) != (champion, challenger, arms)

    def _previous(self, problems: dict[str, str]) -> LoadedVersion | None:
        name = self._registry.previous_champion(self.model)
        alias = None if name is None else Alias(version=name, share=0.0, since=0, reason="", salt="")
        return self._load(alias, "previous champion", problems)

    def _load(self, alias: Alias | None, name: str, problems: dict[str, str]) -> LoadedVersion | None:
        if alias is None:
            return None
        if alias.version not in self._loaded:
            try:
                version = self._registry.version(alias.version)
                self._loaded[alias.version] = load_version(version, self._bundles, self._plan)
            except (BundleError, RegistryError, OSError) as error:
                problems[name] = f"{alias.version}: {error}"
                if (self.current.problems or {}).get(name) != problems[name]:
                    log.error("version_refused", extra={"model": self.model, "why": problems[name]})
                return None
        return self._loaded[alias.version]
