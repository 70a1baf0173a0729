"""Experiments at work.

rows    settled answers as columns
trials  what came of each arm, and carrying the verdict out
report  what is said of an experiment
desk    experiments as people meet them
"""
