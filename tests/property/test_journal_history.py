"""Whatever is written, moved and removed in whatever order: all that was said is there, each once."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

import duckdb
import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

import icekeel as ik
from icekeel.core.ids import new_id
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import HOUR
from icekeel.data import History, compaction
from icekeel.data.answers import Answers, Wanted, answer_columns
from icekeel.data.compaction import all_records, compact
from icekeel.journal import Decided, Predicted, Pushed, Record, Writer
from icekeel.operations.upkeep.retention import Kept, spent
from tests.unit.journal.examples import PREDICTED


class Orders(ik.Events, time="ordered_at", id="order_id"):
    order_id: ik.Id


TABLES = {"Orders": Orders.icekeel_table}
DECLARED = {"price": answer_columns([Column("colors", Kind.NUM)], [Column("clv", Kind.NUM)])}
VALUES = (
    st.none()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**62), 2**62)
    | st.text(max_size=5)
)
ANSWERED = st.tuples(
    st.just("answer"),
    st.integers(0, 50),
    st.sampled_from(("price", "gone")),
    st.dictionaries(st.sampled_from(("colors", "ink", "odd name")), VALUES, min_size=1),
)
STEPS = st.lists(
    ANSWERED
    | st.tuples(st.just("push"), st.sampled_from(("Orders", "Gone")))
    | st.tuples(st.just("decide"))
    | st.tuples(st.just("roll"))
    | st.tuples(st.just("move"), st.integers(1, 4_000))
    | st.tuples(st.just("remove")),
    max_size=25,
)


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_all_that_was_said_is_there_once(steps: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        history, journal = History(Path(folder) / "history"), Path(folder) / "journal"
        writer = Writer(journal, "serve", clock=lambda: 10)
        answered: dict[str, Predicted] = {}
        pushed = Counter[str]()
        decided: list[str] = []
        for place, (what, *rest) in enumerate(steps):
            if what == "answer":
                hour, model, request = rest
                one = new_id(int(str(hour)) * HOUR)
                record: Record = msgspec.structs.replace(
                    PREDICTED,
                    at=int(str(hour)) * HOUR,
                    id=one,
                    model=model,
                    request=request,
                    features={"clv": 1.5},
                )
                answered[one] = record  # type: ignore[assignment]
                writer.append(record)
            elif what == "push":
                writer.append(
                    Pushed(at=place, table=str(rest[0]), rows=[{"order_id": str(place), "ordered_at": 1}])
                )
                pushed[f"{rest[0]} {place}"] += 1
            elif what == "decide":
                writer.append(
                    Decided(at=place, id=str(place), model="", kind="", version="", reason="", evidence={})
                )
                decided.append(str(place))
            elif what == "roll":
                writer.close()
                writer = Writer(journal, "serve", clock=lambda: 10)
            elif what == "move":
                with patch.object(compaction, "STRIDE", rest[0]):
                    compact(history, journal, TABLES, DECLARED)
            else:
                manifest = history.manifest()
                may_go = spent(history, manifest, journal, manifest.journal, Kept(journal=0), 0).segments
                for name in may_go:
                    (journal / name).unlink()
            check(history, journal, answered, decided)
        writer.close()
        both = {**TABLES, "Gone": Orders.icekeel_table}
        compact(history, journal, both, DECLARED)
        found = Counter[str]()
        for name in both:
            if files := history.files(name):
                rows = (
                    duckdb.from_parquet([str(file) for file in files], union_by_name=True)
                    .select("order_id")
                    .fetchall()
                )
                found.update(f"{name} {row[0]}" for row in rows)
        assert found == pushed
        check(history, journal, answered, decided)


def check(
    history: History,
    journal: Path,
    answered: dict[str, Predicted],
    decided: list[str],
) -> None:
    found = {record.id: record for record in Answers(history, journal).find(Wanted(limit=1_000))}
    assert found.keys() == answered.keys()
    for one, record in answered.items():
        assert alike(found[one].request, record.request), one
        assert msgspec.structs.replace(found[one], request=record.request) == record
    assert sorted(record.id for record in all_records(history, journal, Decided)) == sorted(decided)


def alike(found: Mapping[str, object], given: Mapping[str, object]) -> bool:
    """All that was given, and nothing else; where a field was of several kinds, as text."""
    return all(
        found.get(name) == value or found.get(name) == str(value) or float(str(value)) == found.get(name)
        for name, value in given.items()
        if value is not None
    ) and all(found[name] is None for name in found.keys() - given.keys())
