"""The five questions that a system must answer before it is trusted, each with its evidence.

Enough feature work? Data trustworthy? Behaviour monitored? Simplest model? Can it be kept right?
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from icekeel.core.time import DAY, MINUTE, format_time
from icekeel.data import Manifest
from icekeel.data.quarantine import QUARANTINE, RESOLVED
from icekeel.define import Project
from icekeel.define.project import PROJECT_FILE
from icekeel.features.plan import Plan
from icekeel.registry import Registry

from .briefing import Briefing

Verdict = Literal["yes", "partly", "no"]
MOST_QUARANTINED = 0.01
LEAST_CARRIED = 0.2
"""Share of what all features save that those which are more than a field of the request should carry."""
TWO_MINUTES = 460
"""Words that are read aloud in two minutes, at 230 a minute."""
BEHIND = 10 * MINUTE
TESTS_S = 120.0


@dataclass(frozen=True, slots=True)
class Point:
    """One thing that was looked at.

    Attributes:
        what: What was found, with its figure.
        holds: Whether that is well.
        must: Whether the question is answered with no where it is not.
        todo: What to do then.
    """

    what: str
    holds: bool
    todo: str = ""
    must: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """One of the five questions."""

    question: str
    verdict: Verdict
    points: Sequence[Point]

    @classmethod
    def of(cls, question: str, points: Iterator[Point]) -> Answered:
        """By its points: yes where all hold, no where one that must does not."""
        listed = list(points)
        failed = [point for point in listed if not point.holds]
        verdict: Verdict = "no" if any(point.must for point in failed) else "partly" if failed else "yes"
        return cls(question, verdict, listed)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What else is known of a running system.

    Attributes:
        manifest: The rows there are.
        seen: How far the keeper was when it last looked, microseconds UTC; 0 where it never ran.
        words: Of the page about the model.
        now: Microseconds UTC.
    """

    manifest: Manifest
    seen: int
    words: int
    now: int


def readiness(
    about: Briefing, project: Project, plan: Plan, registry: Registry, circumstances: Circumstances
) -> list[Answered]:
    """The five answers for a version."""
    return [
        Answered.of("Is there enough feature work?", _features(about)),
        Answered.of("Can the data be trusted?", _data(about, project, plan, circumstances)),
        Answered.of("Is its behaviour watched?", _behaviour(about, circumstances)),
        Answered.of("Is it the simplest model that is good enough?", _simplest(about, circumstances)),
        Answered.of("Can it be kept right?", _kept(about, project, plan, registry, circumstances)),
    ]


def _features(about: Briefing) -> Iterator[Point]:
    model = about.definition
    made = {name for name, kind in about.kinds.items() if kind != "request"}
    carried = sum(share for name, share in about.importance if name in made)
    yield Point(
        f"{len(made)} of {len(about.kinds)} features are more than a field of the request; they carry {carried:.0%} "
        "of what all save",
        carried >= LEAST_CARRIED,
        f"icekeel features {model.name}; docs/features.md",
    )
    if model.baseline is None:
        todo = "declare the notebook's features: baseline="
        yield Point("what the features gain over plain ones is not measured", False, todo)
    elif (gain := about.features) is None:
        todo = f"icekeel train {model.name}"
        yield Point("what the features gain over the baseline's was not measured in training", False, todo)
    else:
        yield Point(
            f"{gain.rung} on the features of {model.baseline.__name__} has an error of "
            f"{gain.errors[gain.rung]['raw']:.4g} instead of {gain.errors[gain.rung]['engineered']:.4g}",
            gain.features.gain > 0,
            f"icekeel features {model.name} says which can go",
        )


def _data(about: Briefing, project: Project, plan: Plan, circumstances: Circumstances) -> Iterator[Point]:
    read = {lookup.view.table for lookup in plan.lookups} | {about.definition.outcome.keyed.table}
    for name in sorted(read):
        good = circumstances.manifest.rows(name)
        aside, done = (circumstances.manifest.rows(f"{kind}/{name}") for kind in (QUARANTINE, RESOLVED))
        bad = max(0, aside - done)
        share = bad / max(1, good + bad)
        what = f"{name}: {good:,} rows, {bad:,} in quarantine ({share:.2%})"
        yield Point(what, share <= MOST_QUARANTINED, f"icekeel quarantine {name}")
    loose = [name for name in sorted(read) if _loose(project, name)]
    if loose:
        yield Point(
            f"nothing is demanded of the rows of {', '.join(loose)} but their types",
            False,
            f"icekeel contract draft {loose[0]}",
        )
    if not about.dossier.audits:
        yield Point("no audit is on record", False, f"icekeel audit {about.definition.name}", must=True)
    for one in about.dossier.audits:
        what = f"{one.get('audit')}: {str(one.get('what', '')).rstrip('.')}"
        yield Point(
            what, one.get("verdict") == "pass", str(one.get("todo", "")), must=one.get("verdict") == "block"
        )


def _loose(project: Project, name: str) -> bool:
    table = project.tables[name]
    limited = (field for field in table.fields.values() if field.limits != type(field.limits)())
    return not table.rules and next(limited, None) is None


def _behaviour(about: Briefing, circumstances: Circumstances) -> Iterator[Point]:
    model, life = about.definition, about.life
    if not circumstances.seen:
        yield Point("nothing has served it yet", False, "icekeel up", must=True)
    else:
        behind = max(0, circumstances.now - circumstances.seen)
        what = f"the keeper was last at work {format_time(circumstances.seen)}"
        yield Point(what, behind <= BEHIND, "icekeel up", must=True)
    known = f"{life.answers:,} answers with a known outcome since {life.since[:10]}"
    yield Point(
        known, life.wrong is not None, "see whether outcomes arrive: icekeel answers, docs/journal.md"
    )
    if model.guard is None:
        yield Point("no guard is declared", False, "guard=ik.Guard(budget=0.01)")
    elif about.guard:
        rate = float(about.guard["flag_rate"])
        what = f"the guard flags {rate:.2%} of ordinary requests, {model.guard.budget:.2%} allowed"
        yield Point(what, rate <= model.guard.budget, f"icekeel guard {model.name}")
    yearly = model.watch.false_alarms_per_year
    yield Point(
        f"{len(about.alerts)} open alerts; {yearly:g} false alarms a year are allowed for",
        not about.alerts,
        "icekeel alerts",
    )


def _simplest(about: Briefing, circumstances: Circumstances) -> Iterator[Point]:
    version, model = about.version, about.definition
    winner = str(version.metrics.get("ladder_winner", ""))
    todo = f"icekeel train {model.name}"
    yield Point(str(version.ladder.get("reason", "")), winner == version.rung, todo)
    for change in about.dossier.overrides:
        yield Point(
            f"it serves although a gate failed: {change.override}",
            False,
            "mend it, and train again",
            must=True,
        )
    yield Point(
        f"its page has {circumstances.words} words, {TWO_MINUTES} are read in two minutes",
        circumstances.words <= TWO_MINUTES,
        "fewer features, a simpler rung",
    )


def _kept(
    about: Briefing, project: Project, plan: Plan, registry: Registry, circumstances: Circumstances
) -> Iterator[Point]:
    model, version = about.definition, about.version
    yield _tests(project.folder)
    age = (circumstances.now - version.trained_to) // DAY
    every = (
        "it is trained again when told to"
        if model.retrain is None
        else f"it is trained again each {model.retrain.every}"
    )
    yield Point(
        f"{every}; what it has learnt from ends {age:,} days ago",
        model.retrain is not None,
        'retrain=ik.Retrain(every="month")',
    )
    previous = registry.previous_champion(model.name)
    yield Point(
        f"a roll-back goes to {previous}" if previous else "there is no version to go back to",
        previous is not None,
        "train another version; until then a fall-back is all there is",
    )
    now = {feature.name: feature.digest for feature in plan.features}
    then = about.dossier.contents.definitions if about.dossier.contents else {}
    changed = [name for name, one in then.items() if now.get(name) != one]
    yield Point(
        f"features changed since: {', '.join(changed)}"
        if changed
        else "the project defines its features as when it was trained",
        not changed,
        f"icekeel train {model.name}",
        must=True,
    )


def _tests(folder: Path) -> Point:
    """The tests that stand in the project file, run."""
    path = folder / PROJECT_FILE
    body = ast.parse(path.read_text(encoding="utf-8")).body
    count = sum(isinstance(one, ast.FunctionDef) and one.name.startswith("test_") for one in body)
    if not count:
        return Point("the project file has no tests", False, "write some: ik.given(...).at(...)")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", PROJECT_FILE]
    try:
        ran = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=TESTS_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Point(f"the {count} tests of the project file did not end", False, f"pytest {PROJECT_FILE}")
    if "No module named pytest" in ran.stderr:
        return Point(f"the project file has {count} tests; they were not run", False, "pip install pytest")
    well = ran.returncode == 0
    what = f"the {count} tests of the project file {'pass' if well else 'do not pass'}"
    return Point(what, well, f"pytest {PROJECT_FILE}", must=True)
