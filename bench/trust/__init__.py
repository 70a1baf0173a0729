"""Trust: contracts, audits, the ladder, bundles, similar cases."""
