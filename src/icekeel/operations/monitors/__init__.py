"""Monitoring of a model: its streams, what is usual of them, and looking at them.

streams    what is asked, answered, what came of it, and event tables, as rows
baselines  what is usual, learnt at training
minutes    counting and looking, minute by minute
watch      the shape of each day, and the error of answers
monitor    what is watched now, for people
"""
