"""Labels in doubt go out as CSV and come back in: the likeliest first, kept with who and why, and learnt from."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icekeel.app import App
from icekeel.cli.labels import labels
from icekeel.core.errors import RequestError, SourceError
from icekeel.features.outcomes import Status
from icekeel.operations.workshop.labelling import Taken
from icekeel.testing.small import PROJECT, TRAINED_TO, write_rows, write_small_project
from icekeel.training.audits import Finding
from icekeel.training.dataset import Learnable

from .commands import icekeel

Rows = list[dict[str, Any]]


def quiet(line: str) -> None:
    del line


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parcels of which one in eight is told wrong: 40 minutes late where it was in time, or the other way round."""
    folder = tmp_path_factory.mktemp("labels") / "small"
    write_small_project(folder)
    rng, path = np.random.default_rng(5), folder / "deliveries.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    (folder / "truth.json").write_text(
        json.dumps({row["parcel_id"]: float(row["minutes_late"]) for row in rows})
    )
    for row in rows:
        if rng.random() < 0.125:
            row["minutes_late"] = "40.0" if float(row["minutes_late"]) <= 15 else "-2.0"
    write_rows(path, rows)
    App(folder, clock=lambda: TRAINED_TO).ingest([])
    return folder


def read(path: Path) -> Rows:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def truth_of(folder: Path) -> dict[str, float]:
    return dict(json.loads((folder / "truth.json").read_text()))


def take(app: App, rows: Rows, model: str = "late") -> Taken:
    registry = app.registry()
    with app.journal("labels") as journal:
        taken = app.labelling(registry).take(
            model, rows, registry, journal, by="anna", reason="looked", say=quiet
        )
    registry.close()
    return taken


def listed(app: App, budget: float, model: str = "late") -> Rows:
    registry = app.registry()
    found = app.labelling(registry).in_doubt(model, budget, quiet)
    registry.close()
    return found.rows


def learnt(app: App, model: str = "late") -> Learnable:
    registry = app.registry()
    _, data = app.workshop(registry).prepare(model, app.clock(), quiet)
    registry.close()
    return data


def test_a_list_goes_out_and_comes_back_and_the_next_one_is_scored_anew(folder: Path) -> None:
    truth, out = truth_of(folder), folder / "review.csv"
    told = icekeel(folder, "labels", "list", "late", "--budget", "0.05", "--out", str(out))
    rows = read(out)
    assert len(rows) == len(told["rows"]) == -(-told["labels"] // 20)
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert told["low"] < 0.125 < told["high"] + 0.05
    for row in rows:
        row["label"] = str(truth[row["parcel_id"]])
    write_rows(out, rows)
    taken = icekeel(folder, "labels", "take", "late", str(out), "--by", "anna", "--reason", "phoned")
    assert taken["confirmed"] + taken["corrected"] == len(rows)
    assert taken["corrected"] > 0.55 * len(rows), (
        "one in eight is wrong: the list must find far more than chance"
    )
    assert taken["events"] == taken["corrected"]
    app = App(folder)
    registry = app.registry()
    anew = app.labelling(registry).in_doubt("late", 50, quiet)
    (decision,) = registry.decisions("late")
    registry.close()
    assert (anew.reviewed, anew.corrected) == (len(rows), taken["corrected"])
    assert not {row["id"] for row in anew.rows} & {row["id"] for row in rows}
    assert decision.kind == "labels" and "anna: phoned" in decision.reason
    again = take(app, rows)
    assert again.unchanged == len(rows) and again.confirmed == again.corrected == 0


def test_what_was_said_is_learnt_and_makes_no_outcome_younger(folder: Path) -> None:
    app, truth = App(folder, clock=lambda: TRAINED_TO), truth_of(folder)
    before = learnt(app)
    rows = listed(app, 40)
    for row in rows:
        row["label"] = truth[row["parcel_id"]]
    take(app, rows[:20])
    after = learnt(app)
    chosen = np.isin(before.requests["parcel_id"], [row["parcel_id"] for row in rows[:20]])
    assert (after.reviews > 0).sum() == chosen.sum() == 20
    assert after.outcomes.value[chosen].tolist() == [
        truth[one] for one in before.requests["parcel_id"][chosen]
    ]
    assert (after.outcomes.target[chosen] == (after.outcomes.value[chosen] > 15)).all()
    assert (after.outcomes.known_at == before.outcomes.known_at).all()
    assert np.array_equal(after.outcomes.target[~chosen], before.outcomes.target[~chosen], equal_nan=True)
    # As it was known before the review, nothing has changed.
    registry = app.registry()
    _, then = app.workshop(registry).prepare("late", TRAINED_TO - 1, quiet)
    registry.close()
    assert not then.reviews.any()


def audited(app: App) -> Finding:
    registry = app.registry()
    (finding,) = app.workshop(registry).audit("late", ["labels"], TRAINED_TO, quiet)
    registry.close()
    return finding


def test_the_audit_warns_of_labels_in_doubt_and_blocks_once_people_found_them_wrong(folder: Path) -> None:
    app, truth = App(folder, clock=lambda: TRAINED_TO), truth_of(folder)
    doubtful = audited(app)
    assert doubtful.verdict == "warn" and "icekeel labels list late" in doubtful.todo
    low, high = doubtful.evidence["interval"]
    assert 0.08 < low < 0.15 < high < 0.35, (
        "one in eight is wrong, and some of what is right could not be foreseen"
    )
    assert doubtful.cost is not None and doubtful.cost > 0 and "which costs" in doubtful.what
    rows = [row | {"label": truth[row["parcel_id"]]} for row in listed(app, 200)]
    confirmed, corrected = rows[-60:], rows[:60]
    take(app, corrected)
    assert audited(app).verdict == "block"
    take(app, [row | {"label": row["given"]} for row in confirmed])  # whoever finds nothing wrong says so too
    cleared = audited(app)
    assert cleared.evidence["wrong"] < 0.7 * doubtful.evidence["wrong"]
    assert cleared.evidence["reviewed"] == 120


def test_an_event_that_becomes_known_after_a_review_counts(folder: Path) -> None:
    app = App(folder, clock=lambda: TRAINED_TO)
    row = listed(app, 1)[0]
    take(app, [row | {"label": 12.5}])
    later = App(folder, clock=lambda: TRAINED_TO + 1_000_000)
    data = learnt(later)
    place = int(np.flatnonzero(data.reviews)[0])
    assert data.outcomes.value[place] == 12.5
    with later.journal("push") as journal:
        told = {"parcel_id": row["parcel_id"], "depot": "north", "minutes_late": 99.0}
        delivered = data.asked_at[place] + 3_600_000_000
        accepted = later.intake(journal).push("Deliveries", [told | {"delivered_at": int(delivered)}])
    assert not accepted.faults
    data = learnt(App(folder, clock=lambda: TRAINED_TO + 2_000_000))
    assert data.outcomes.value[place] == 99.0 and not data.reviews.any()


def test_all_of_a_review_is_taken_or_nothing(folder: Path) -> None:
    app = App(folder, clock=lambda: TRAINED_TO)
    rows = listed(app, 6)
    rows[0]["label"] = "soon"
    rows[1] |= {"label": "3", "id": "nobody"}
    rows[2] |= {"label": "3", "given": "1234"}
    rows[3]["label"] = "7"
    rows.append(rows[3] | {"label": "8"})
    with pytest.raises(RequestError) as refused:
        take(app, rows)
    assert [(fault.code, fault.where) for fault in refused.value.faults] == [
        ("wrong_type", "row 2, label"),
        ("unknown_label", "row 3, id"),
        ("label_changed", "row 4"),
        ("label_twice", "row 8"),
    ]
    assert not learnt(app).reviews.any()


def test_the_command_refuses_what_is_no_review(folder: Path) -> None:
    path = folder / "other.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(SourceError) as refused:
        labels("take", "late", path, reason="x", project=folder)
    assert refused.value.code == "missing_column"
    path.write_text("id,given,label\n1,2,3\n", encoding="utf-8")
    with pytest.raises(RequestError) as unfounded:
        labels("take", "late", path, by="anna", project=folder)
    assert [fault.where for fault in unfounded.value.faults] == ["reason"]


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Outcomes that are no single event's: how often a depot is scanned in the next day."""
    folder = tmp_path_factory.mktemp("counted") / "small"
    head, _, tail = PROJECT.partition("    target=")
    target = 'Scans.where(depot=Parcel.depot).within("1d").backlog.sum(absent=0)'
    rest = tail.split("choose=", 1)[1]
    lines = [line for line in rest.splitlines() if "action=" not in line]
    write_small_project(
        folder, f'{head}    target={target},\n    error="mae",\n    choose=' + "\n".join(lines)
    )
    app = App(folder, clock=lambda: TRAINED_TO)
    app.ingest([])
    yield app


def test_a_label_of_several_events_is_kept_beside_them(counted: App) -> None:
    row = listed(counted, 1)[0]
    taken = take(counted, [row | {"label": "77"}])
    assert (taken.corrected, taken.events) == (1, 0)
    data = learnt(counted)
    assert data.outcomes.target[data.reviews == 2].tolist() == [77.0]
    assert (data.outcomes.status[data.reviews == 2] == Status.KNOWN).all()
