"""What tests check implementations against: slow, obvious oracles and suites that every implementation passes.

Shipped, so that a store or engine written elsewhere can be held to the same rules. Nothing in the product
imports this room; it knows features and core, not models or servers.
"""
