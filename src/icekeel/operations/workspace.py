"""What keeper, workshop and auditor all work on: the definitions, and where the data of one project lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from icekeel.data import History, Manifest
from icekeel.data.answers import answer_columns
from icekeel.data.compaction import compact
from icekeel.define import Project
from icekeel.features.live import all_views
from icekeel.features.plan import Lookup, Plan


@dataclass(frozen=True, slots=True)
class Workspace:
    """One project and its folders.

    Attributes:
        project: The definitions.
        plans: Model -> all features that any of its versions may read.
        history: Parquet files and their manifest.
        journal: Folder of the segments.
        bundles: Folder of what versions are made of.
    """

    project: Project
    plans: Mapping[str, Plan]
    history: History
    journal: Path
    bundles: Path

    @property
    def lookups(self) -> list[Lookup]:
        """Every view that is kept online."""
        return all_views(list(self.plans.values()))

    def compact(self) -> Manifest:
        """Move what is new in the journal into history; gives the manifest afterwards."""
        answers = {name: answer_columns(plan.inputs, plan.columns) for name, plan in self.plans.items()}
        return compact(self.history, self.journal, self.project.tables, answers)
