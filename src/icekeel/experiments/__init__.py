"""Who sees which arm, and what may be concluded from it, however often somebody looks.

Assignment by salted hash, evidence that stays valid under continuous looking, and rollout plans that turn
evidence into a verdict with a sentence. Pure arithmetic on numbers handed in: this room must not know
where answers, outcomes or versions are stored, nor carry out what it recommends.
"""

from .assignment import Arm, Arms, Assignment
from .course import Look, course, naive, naive_sentence
from .evidence import Claim, Evidence, discoveries
from .failures import Failures, failing
from .metrics import Answers, Metric, Units, gather
from .paired import PairedDays
from .power import Question, lasting, paired_days_needed, paired_detectable
from .rollout import RolloutPlan, RolloutState, Verdict, decide, describe
from .sequential import critical_z, log_bets, log_e_value, log_mismatch, rho_squared
from .split import Moments, Score, Split, Tally, TwoSample

__all__ = [
    "Answers",
    "Arm",
    "Arms",
    "Assignment",
    "Claim",
    "Evidence",
    "Failures",
    "Look",
    "Metric",
    "Moments",
    "PairedDays",
    "Question",
    "RolloutPlan",
    "RolloutState",
    "Score",
    "Split",
    "Tally",
    "TwoSample",
    "Units",
    "Verdict",
    "course",
    "critical_z",
    "decide",
    "describe",
    "discoveries",
    "failing",
    "gather",
    "lasting",
    "log_bets",
    "log_e_value",
    "log_mismatch",
    "naive",
    "naive_sentence",
    "paired_days_needed",
    "paired_detectable",
    "rho_squared",
]
