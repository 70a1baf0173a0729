"""Serving measured: answers, guard, journal, swaps and overload of the real processes, and what peers need to predict."""
