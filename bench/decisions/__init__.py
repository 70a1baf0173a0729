"""Decisions: alarms, experiments and the loop, measured by rehearsal and simulation."""
