"""All audits of a training set, and the gates that they make."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

import numpy as np

from icekeel.define.audits import AUDITS as NAMES
from icekeel.define.audits import Audits

from ..gates import Gate
from .columns import columns
from .findings import VERDICTS, Finding
from .freshness import freshness
from .input import Audit, AuditInput
from .interactions import interactions
from .labels import labels
from .leakage import leakage
from .representation import representation
from .subgroups import subgroups

AUDITS: Mapping[str, Audit] = {
    "columns": columns,
    "representation": representation,
    "leakage": leakage,
    "subgroups": subgroups,
    "freshness": freshness,
    "labels": labels,
    "interactions": interactions,
}
"""Name -> audit; `skew`, which recomputes answers, is made elsewhere."""
ALWAYS = ("columns", "representation", "leakage", "subgroups", "freshness")
"""Made at every training; the others cost more and are made on request."""


def examine(given: AuditInput, names: Collection[str]) -> list[Finding]:
    """What the audits of these names find, in the order of `NAMES`; those that the policy turns off are not made."""
    policy = given.model.audits
    found = []
    for name in NAMES:
        if name in names and name in AUDITS and name not in policy.off:
            rng = np.random.default_rng([given.problem.seed, NAMES.index(name)])
            found.append(under(policy, AUDITS[name](replace(given, rng=rng))))
    return found


def under(policy: Audits, finding: Finding) -> Finding:
    """The finding with the verdict that the policy makes of it."""
    if finding.verdict == "warn" and finding.audit in policy.block:
        return replace(finding, verdict="block")
    if finding.verdict == "block" and finding.audit in policy.warn:
        return replace(finding, verdict="warn")
    return finding


def gates_of(findings: Iterable[Finding]) -> list[Gate]:
    """One gate per finding, failed by those that block; measured is the verdict: 0 pass, 1 warn, 2 block."""
    found = []
    for one in findings:
        why = f"{one.what}; {one.todo}" if one.todo else one.what
        level = float(VERDICTS.index(one.verdict))
        found.append(Gate(f"audit_{one.audit}", one.verdict != "block", level, 1.0, why))
    return found
