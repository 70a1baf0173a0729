"""What tests check implementations against: slow, obvious oracles and suites that every implementation passes.

`definitions` says what a feature means, `fuzzing` asks every engine whether it agrees, in random `worlds` about random
definitions (`grammar`); `online_store` holds a store to its laws, `model_checks` a rung and its engine.

Shipped, so that a store, a rung or an engine written elsewhere can be held to the same rules. Nothing in the product
imports this room.
"""

from .model_checks import Checked, check_model

__all__ = ["Checked", "check_model"]
