"""Feast, measured in its own environment: `python feast_store.py offline|online COLUMNS EVENTS QUESTIONS RESULT`.

Prints one JSON object. Nothing of Icekeel is imported, and no import is measured.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from importlib.metadata import version
from typing import Any

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64

READS = 3_000


def store_of(folder: str, events: str, columns: list[str]) -> FeatureStore:
    """A store with one view by customer."""
    config = RepoConfig(
        project="bench",
        provider="local",
        registry=f"{folder}/registry.db",
        offline_store={"type": "duckdb"},
        online_store={"type": "sqlite", "path": f"{folder}/online.db"},
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    customer = Entity(name="customer", join_keys=["customer"], value_type=ValueType.STRING)
    view = FeatureView(
        name="sales",
        entities=[customer],
        ttl=timedelta(days=3650),
        schema=[Field(name=name, dtype=Float64) for name in columns],
        source=FileSource(path=events, timestamp_field="event_timestamp"),
    )
    store.apply([customer, view])
    return store


def offline(store: FeatureStore, features: list[str], questions: str, result: str) -> dict[str, Any]:
    """CPU seconds of `get_historical_features`, from Parquet to a data frame."""
    few = pd.read_parquet(questions).head(100)
    store.get_historical_features(
        entity_df=few, features=features
    ).to_df()  # what is imported when first used
    begin = time.process_time()
    entities = pd.read_parquet(questions)
    frame = store.get_historical_features(entity_df=entities, features=features).to_df()
    cpu_s = time.process_time() - begin
    frame.to_parquet(result)
    return {"cpu_s": cpu_s, "rows_in": len(entities), "rows_out": len(frame)}


def online(store: FeatureStore, features: list[str], questions: str) -> dict[str, Any]:
    """CPU microseconds of one `get_online_features` of one customer, from SQLite."""
    store.materialize(datetime(2023, 12, 1, tzinfo=timezone.utc), datetime(2025, 2, 1, tzinfo=timezone.utc))  # noqa: UP017
    customers = pd.read_parquet(questions)["customer"].head(READS + 200).tolist()
    spent = []
    for customer in customers:
        begin = time.process_time_ns()
        found = store.get_online_features(features=features, entity_rows=[{"customer": customer}]).to_dict()
        spent.append((time.process_time_ns() - begin) / 1e3)
        assert len(found) == len(features) + 1  # noqa: S101
    return {"p50_us": statistics.median(spent[200:]), "reads": READS}


def main() -> None:
    """Measure what was asked for."""
    what, count, events, questions, result = sys.argv[1:]
    columns = [f"v{at}" for at in range(int(count))]
    features = [f"sales:{name}" for name in columns]
    with tempfile.TemporaryDirectory() as folder:
        store = store_of(folder, events, columns)
        found = (
            offline(store, features, questions, result)
            if what == "offline"
            else online(store, features, questions)
        )
    print(json.dumps(found | {"versions": {name: version(name) for name in ("feast", "duckdb", "pandas")}}))


if __name__ == "__main__":
    main()
