"""A simulated print shop whose true prices are known, to see what features and a guard are worth.

It makes requests for quotes, what came of them, the customers' orders and the plant's backlog. What a model
makes of them is not known here.
"""

from .simulate import DIFFICULTY, NEVER_SEEN, Truth, simulate

__all__ = ["DIFFICULTY", "NEVER_SEEN", "Truth", "simulate"]
