"""The skew audit: served features recomputed from history.

skew      the audit itself
evidence  why a feature was served other than it is recomputed
"""
