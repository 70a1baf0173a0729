"""What keeper, workshop and auditor all work on: the definitions, and where the data of one project lie."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from icekeel.data import History, Manifest
from icekeel.data.answers import answer_columns
from icekeel.data.compaction import compact, unmoved
from icekeel.data.labels import label_tables
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
        runs: Folder of the locks of what is under way.
    """

    project: Project
    plans: Mapping[str, Plan]
    history: History
    journal: Path
    bundles: Path
    runs: Path

    @property
    def lookups(self) -> list[Lookup]:
        """Every view that is kept online."""
        return all_views(list(self.plans.values()))

    def compact(self) -> Manifest:
        """Move what is new in the journal into history; gives the manifest afterwards."""
        answers = {name: answer_columns(plan.inputs, plan.columns) for name, plan in self.plans.items()}
        tables = {**self.project.tables, **label_tables(self.project.models)}
        return compact(self.history, self.journal, tables, answers)

    @contextmanager
    def view(self) -> Iterator[Manifest]:
        """History with the events that are in the journal alone, while nothing is moved: to look once at what is new.

        Files of the manifest that it gives are gone afterwards.
        """
        manifest = self.history.manifest()
        with tempfile.TemporaryDirectory(prefix="icekeel-view-") as folder:
            added, offsets = unmoved(History(Path(folder)), self.journal, manifest, self.project.tables)
            tables = {name: [*manifest.tables.get(name, ()), *files] for name, files in added.items()}
            yield Manifest({**manifest.tables, **tables}, offsets)
