"""Data of the two example systems: real flights from New York, and a simulated print shop.

Each example makes plain Parquet files that its project file declares. The code here knows nothing of
features, models or servers; it uses the core, NumPy and DuckDB only.
"""
