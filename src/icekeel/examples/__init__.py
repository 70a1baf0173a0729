"""Data of the two example systems: real flights from New York, and a simulated print shop.

Each example makes plain Parquet files that its project file declares; `sources` gives them back in the order in which
a live system would have received them. The code that makes them knows nothing of features, models or servers.
"""
