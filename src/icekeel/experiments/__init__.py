"""Who sees which arm, and what may be concluded from it, however often somebody looks.

Assignment by salted hash, evidence that stays valid under continuous looking, and rollout plans that turn
evidence into a verdict with a sentence. Pure arithmetic on numbers handed in: this room must not know
where answers, outcomes or versions are stored, nor carry out what it recommends.
"""

from .assignment import Arm, Arms, Assignment
from .comparisons import Claim, Evidence, Moments, PairedDays, Split, TwoSample
from .rollout import Guardrail, RolloutPlan, RolloutState, Verdict, decide
from .sequential import Betting, critical_z, log_e_value, log_mismatch, rho_squared

__all__ = [
    "Arm",
    "Arms",
    "Assignment",
    "Betting",
    "Claim",
    "Evidence",
    "Guardrail",
    "Moments",
    "PairedDays",
    "RolloutPlan",
    "RolloutState",
    "Split",
    "TwoSample",
    "Verdict",
    "critical_z",
    "decide",
    "log_e_value",
    "log_mismatch",
    "rho_squared",
]
