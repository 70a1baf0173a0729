"""The loop and its clock: what happens on its own, in which order, and why.

The keeper makes every projection of the journal and runs the schedule; the workshop trains and admits versions;
the loop watches, judges and decides. Knows every room but the front doors.
"""
