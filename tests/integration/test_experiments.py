"""An experiment from its first answer to its report: a real project, keeper, registry and commands."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from icekeel.cli.main import cli
from icekeel.core.time import DAY
from icekeel.journal import Predicted, scan
from icekeel.operations.trials import Trials
from icekeel.registry import CHALLENGER, trials
from icekeel.serving.answers import CHALLENGER_FAILED
from icekeel.testing.small import PROJECT, TRAINED_TO, train_small, write_small_project

from .shipping import Office, drain, kept, open_app, run_day

ROLLOUT = """ik.Rollout(unit=Parcel.parcel_id, steps=(0.4, 0.5), minimum_days=1, split=True,
    primary=ik.Metric(came.minutes_late.mean(absent=0), name="lateness", better="lower"), not_worse=[(came.count(), .1)],
    only=Parcel.service == "express", forced={"p60-1": "challenger"}, segments=[Parcel.depot], covariate=Windowed.late_1d)"""
TEXT = PROJECT.replace(
    "ik.Rollout(unit=Parcel.parcel_id, share=0.5, minimum_days=1, split=True)", ROLLOUT
).replace(
    "late = ik.Model(", 'came = Deliveries.where(parcel_id=Parcel.parcel_id).within("1d")\n\nlate = ik.Model('
)
DAYS = 4


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any]]:
    """Some days of an experiment, and what the keeper would say of it."""
    folder = tmp_path_factory.mktemp("trial") / "small"
    write_small_project(folder, TEXT)
    train_small(folder, baseline=True)
    train_small(folder)
    app = open_app(folder)
    with kept(app) as keeper:
        office = Office(app, keeper._online)
        for day in range(DAYS):
            run_day(keeper, office, day)
        office.close()
        trial = trials(keeper._registry.history("late"))[-1]
        standing = Trials(keeper._registry).standing(
            TRAINED_TO + DAYS * DAY, app.model("late"), keeper._results["late"], trial
        )
    yield folder, standing


def answered(folder: Path) -> list[Predicted]:
    return list(scan(open_app(folder).places.journal, kinds=Predicted))


def test_each_exposure_is_journaled_with_its_phase_and_probability(played: tuple[Path, Any]) -> None:
    folder, standing = played
    phases = {record.phase for record in answered(folder)}
    assert phases - {"", "forced"} <= set(standing.trial.phases(even=True))
    for record in answered(folder):
        express = record.request["service"] == "express"
        if record.unit == "p60-1":
            assert (record.arm, record.share, record.phase) == ("challenger", 1.0, "forced")
        elif not express:
            assert (record.arm, record.share, record.phase) == ("champion", 1.0, "")
        else:
            assert record.share == (0.5 if record.phase else 1.0)
    exposed = [record for record in answered(folder) if record.phase in standing.trial.phases(even=True)]
    fast = [record for record in answered(folder) if record.request["service"] == "express"]
    assert 0.6 < len(exposed) / len(fast) <= 1.0  # 80 % at the first step, all at the second


def test_metrics_are_those_of_the_rows_that_arrived_within_their_time(played: tuple[Path, Any]) -> None:
    """Against the journal and the world's own deliveries, counted here in the plainest way."""
    from .shipping import WORLD

    folder, standing = played
    delivered = {row["parcel_id"]: row for row in WORLD.deliveries}
    sums: dict[str, list[float]] = {"champion": [], "challenger": []}
    closed = TRAINED_TO + DAYS * DAY
    for record in answered(folder):
        if record.phase in standing.trial.phases(even=True) and record.at + DAY <= closed:
            row = delivered.get(record.unit)
            met = row is not None and record.at <= row["delivered_at"] < record.at + DAY
            sums[record.arm].append(row["minutes_late"] if row is not None and met else 0.0)
    units = standing.units["lateness"]
    assert sorted(units.value[~units.in_b].tolist()) == pytest.approx(sorted(sums["champion"]))
    assert sorted(units.value[units.in_b].tolist()) == pytest.approx(sorted(sums["challenger"]))
    assert min(map(len, sums.values())) > 10
    assert units.covariate is not None


def test_projections_made_anew_come_to_the_same(played: tuple[Path, Any], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(played[0], tmp_path / "small"))
    app = open_app(folder)
    app.ask_anew()
    with kept(app) as keeper:
        drain(keeper)
        trial = trials(keeper._registry.history("late"))[-1]
        again = Trials(keeper._registry).standing(
            TRAINED_TO + DAYS * DAY, app.model("late"), keeper._results["late"], trial
        )
    assert again.state.log_mismatch == pytest.approx(played[1].state.log_mismatch)
    assert sorted(again.units["lateness"].value.tolist()) == sorted(
        played[1].units["lateness"].value.tolist()
    )


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(cli, ["experiment", *arguments, "--json"])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return json.loads(result.stdout)


def test_the_commands_tell_what_runs_what_it_needs_and_how_it_stands(
    played: tuple[Path, Any], tmp_path: Path
) -> None:
    project = ("--project", str(played[0]))
    (listed,) = run("list", *project)
    assert (listed["challenger"], listed["shares"][0], listed["ended"]) == ("late-2", 0.4, None)
    shown = run("show", "late", *project)
    assert set(shown["metrics"]) == {"lateness", "events"}
    assert set(shown["segments"]["depot"]) == {"east", "north", "south", "west"}
    page = tmp_path / "page.html"
    assert run("report", "late", "--out", str(page), *project)["page"] == str(page)
    assert "Sizes of the arms" in page.read_text()
    powers = run("power", "late", "--effect", "0.1", *project)
    assert [one["metric"] for one in powers] == ["lateness", "events"]
    assert powers[0]["sentences"][0].startswith("To find +10.0% you need")


def test_a_challenger_without_a_finite_answer_is_stood_in_for_and_stopped(
    played: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(played[0], tmp_path / "small"))
    app = open_app(folder)
    with kept(app) as keeper:
        drain(keeper)
        office = Office(app, keeper._online)
        router = office.answerers["late"].router
        router.refresh()
        broken = router.current.challenger
        assert broken is not None
        kind = type(broken)
        real = kind.predict_one

        def predict_one(self: Any, values: Any) -> float:
            return math.nan if self.name == broken.name else real(self, values)

        monkeypatch.setattr(kind, "predict_one", predict_one)
        start = TRAINED_TO + DAYS * DAY
        office.ask(start, start + 3 * DAY)
        drain(keeper)
        failed = [one for one in answered(folder) if CHALLENGER_FAILED in one.degraded]
        assert {(one.arm, one.version) for one in failed} == {("challenger", "late-1")}
        assert all(math.isfinite(one.answer) for one in failed)
        office.tick(start + 3 * DAY)
        drain(keeper)
        office.close()
        assert CHALLENGER not in keeper._registry.aliases("late")
        (stop,) = (one for one in keeper._registry.decisions() if one.kind == "stop")
        assert "no finite answer" in stop.reason
