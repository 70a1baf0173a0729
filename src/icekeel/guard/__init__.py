"""Behaviour before the answer: is this request unlike anything the model was trained on, and why.

The guard looks a request up in tables that were compiled and calibrated at training
(`icekeel.training.guarding`) and gives verdicts, nothing else: it must not know of models, policies,
fall-backs, the journal or HTTP. What no guard can see, a familiar request whose truth has changed,
belongs to monitoring.
"""

from .check import Guard
from .evidence import Evidence
from .tables import Category, Combinations, Number, Scale, Tables
from .verdicts import KINDS, Verdict, VerdictKind

__all__ = [
    "KINDS",
    "Category",
    "Combinations",
    "Evidence",
    "Guard",
    "Number",
    "Scale",
    "Tables",
    "Verdict",
    "VerdictKind",
]
