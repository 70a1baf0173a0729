"""The feature store measured: offline, online, ingestion, and the best that others do with the same data."""
