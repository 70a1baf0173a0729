"""Experiments at work.

trials  what came of each arm, and carrying the verdict out
report  what is said of an experiment
desk    experiments as people meet them
"""
