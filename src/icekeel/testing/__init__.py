"""What tests check implementations against: slow, obvious oracles and suites that every implementation passes.

`definitions` says what a feature means, `fuzzing` asks every engine whether it agrees, in random `worlds` about random
definitions (`grammar`); `online_store` holds a store to its laws.

Shipped, so that a store or engine written elsewhere can be held to the same rules. Nothing in the product
imports this room; it knows features and core, not models or servers.
"""
