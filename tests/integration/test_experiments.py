"""An experiment from its first answer to its report: a real project, keeper, registry and commands."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from icekeel.cli.main import cli
from icekeel.core.time import DAY, HOUR, MINUTE
from icekeel.journal import Predicted, scan
from icekeel.operations.trials.desk import stop_by_hand
from icekeel.operations.trials.trials import Trials
from icekeel.registry import CHALLENGER, SHADOW, trials
from icekeel.serving.answers import CHALLENGER_FAILED
from icekeel.testing.small import PROJECT, REQUEST, TRAINED_TO, train_small, write_small_project

from .shipping import WORLD, Office, at_work, drain, kept, open_app, run_day

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
    with at_work(app) as (keeper, office):
        for day in range(DAYS):
            run_day(keeper, office, day)
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
    with going_on(played, tmp_path) as (keeper, office, folder):
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
        assert CHALLENGER not in keeper._registry.aliases("late")
        (stop,) = (one for one in keeper._registry.decisions() if one.kind == "stop")
        assert "no finite answer" in stop.reason


START = TRAINED_TO + DAYS * DAY


@contextmanager
def going_on(played: tuple[Path, Any], tmp_path: Path) -> Iterator[tuple[Any, Office, Path]]:
    """A copy of the project after its days, all of it projected, and an office that goes on."""
    folder = Path(shutil.copytree(played[0], tmp_path / "small"))
    with at_work(open_app(folder)) as (keeper, office):
        drain(keeper)
        yield keeper, office, folder


def exposed(folder: Path) -> list[Predicted]:
    return [record for record in answered(folder) if record.phase not in ("", "forced")]


def standing_of(keeper: Any, office: Office, at: int) -> Any:
    trial = trials(keeper._registry.history("late"))[-1]
    return Trials(keeper._registry).standing(at, office.app.model("late"), keeper._results["late"], trial)


def damage(folder: Path, app: Any, version: str) -> None:
    registry = app.registry()
    digest = registry.version(version).digest
    registry.close()
    for file in (folder / ".icekeel" / "bundles" / digest[:16]).rglob("*"):
        if file.is_file():
            file.chmod(0o600)
            file.write_bytes(file.read_bytes()[:-1])


def test_a_challenger_that_cannot_be_loaded_or_is_withdrawn_exposes_nobody(
    played: tuple[Path, Any], tmp_path: Path
) -> None:
    with going_on(played, tmp_path) as (keeper, office, folder):
        damage(folder, office.app, "late-2")
        before = len(exposed(folder))
        fresh = Office(office.app, keeper._online, "other")
        assert fresh.ask(START, START + DAY // 2)
        assert "challenger" in str(fresh.answerers["late"].router.current.problems)
        assert len(exposed(folder)) == before
        reason: Any = {"reason": "its files are gone", "by": "ann", "at": START + DAY // 2}
        stop_by_hand(fresh.registry, fresh.journal, office.app.model("late"), **reason)
        assert fresh.ask(START + DAY // 2, START + DAY)
        assert not fresh.answerers["late"].router.current.problems
        fresh.tick(START + DAY)
        fresh.close()
        drain(keeper)
        assert len(exposed(folder)) == before
        assert {record.arm for record in answered(folder) if record.at > START} == {"champion"}
        found = standing_of(keeper, office, START + DAY)
        assert (found.trial.ended, found.trial.why) == (START + DAY // 2, "its files are gone")
        assert not {"advance", "promote"} & {
            one.kind for one in keeper._registry.decisions() if one.at > START
        }


def test_a_version_in_shadow_that_cannot_be_loaded_is_stopped_at_midnight(
    played: tuple[Path, Any], tmp_path: Path
) -> None:
    with going_on(played, tmp_path) as (keeper, office, folder):
        registry = keeper._registry
        registry.drop_alias("late", CHALLENGER, reason="test", by="test", at=START)
        registry.set_alias("late", SHADOW, "late-2", share=0.0, reason="test", by="test", at=START)
        damage(folder, office.app, "late-2")
        run_day(keeper, office, DAYS)
        assert SHADOW not in registry.aliases("late")
        assert "could not answer" in registry.decisions()[-1].reason


@pytest.mark.parametrize(
    ("broken", "kind"),
    [({"verdict": "unseen_value"}, "a finding of the guard"), ({"cpu_us": 250_000}, "processor time")],
)
def test_findings_and_slow_answers_stop_a_challenger_at_the_next_minute(
    played: tuple[Path, Any], tmp_path: Path, broken: dict[str, Any], kind: str
) -> None:
    with going_on(played, tmp_path) as (keeper, office, folder):
        latest = exposed(folder)[-1]
        for number in range(80):  # of both arms, and only the challenger's are broken
            arm = "challenger" if number % 2 else "champion"
            record = msgspec.structs.replace(
                latest, at=START + number, id=f"i{number}", unit=f"n{number}", arm=arm, share=0.5
            )
            office.journal.append(msgspec.structs.replace(record, **broken) if number % 2 else record)
        office.tick(START + MINUTE)
        drain(keeper)
        assert CHALLENGER not in keeper._registry.aliases("late")
        (stop,) = (one for one in keeper._registry.decisions() if one.kind == "stop")
        assert stop.at == START + MINUTE
        assert kind in stop.reason


def test_a_batch_takes_part_as_each_of_its_rows_would_alone(
    played: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the challenger gives no number and the champion stands in."""
    with going_on(played, tmp_path) as (_, office, folder):
        answerer = office.answerers["late"]
        answerer.router.refresh()
        broken = answerer.router.current.challenger
        assert broken is not None
        many = type(broken).predict_many

        def predict_many(self: Any, rows: Any) -> Any:
            return [math.nan] * len(rows) if self.name == broken.name else many(self, rows)

        monkeypatch.setattr(type(broken), "predict_many", predict_many)
        monkeypatch.setattr(
            type(broken), "predict_one", lambda self, row: float(predict_many(self, [row])[0])
        )

        rows = [
            {**REQUEST, "parcel_id": f"b{at}", "service": ("express", "standard")[at % 2]} for at in range(40)
        ]
        rows.append({**REQUEST, "parcel_id": "p60-1"})
        alone = [answerer.answer(dict(row), asked_at=START) for row in rows]
        together = answerer.answer_many([dict(row) for row in rows], asked_at=START)
        kept_ = {record.id: record for record in answered(folder)}

        def part(answer: Any) -> tuple[Any, ...]:
            record = kept_[answer.prediction_id]
            return (
                record.arm,
                record.share,
                record.phase,
                record.version,
                tuple(record.degraded),
                record.answer,
            )

        assert [part(one) for one in together] == [part(one) for one in alone]
        parts = [part(one) for one in together]
        assert {one[:4] for one in parts[1::2]} == {
            ("champion", 1.0, "", "late-1")
        }  # of those `only=` leaves out
        stood_in = [one for one in parts if CHALLENGER_FAILED in one[4]]
        assert {(one[0], one[3]) for one in stood_in} == {("challenger", "late-1")}
        assert parts[-1] in stood_in
        assert parts[-1][2] == "forced"


def test_what_cannot_be_vouched_for_counts_in_neither_arm(played: tuple[Path, Any], tmp_path: Path) -> None:
    """A unit in both arms, an outcome before its answer, and answers of a clock that stepped back or ahead."""
    with going_on(played, tmp_path) as (keeper, office, folder):
        before = standing_of(keeper, office, START)
        template = exposed(folder)[-1]
        known = exposed(folder)[0]

        def answer(at: int, unit: str, arm: str) -> None:
            request = {**template.request, "parcel_id": unit}
            record = msgspec.structs.replace(
                template, at=at, id=f"{unit}-{arm}-{at}", unit=unit, key=unit, arm=arm, share=0.5,
                request=request, phase=known.phase,
            )  # fmt: skip
            office.journal.append(record)

        def deliver(at: int, unit: str) -> None:
            row = {"parcel_id": unit, "depot": "north", "minutes_late": 99.0, "delivered_at": at}
            office.intake.push("Deliveries", [row])

        other = "champion" if known.arm == CHALLENGER else CHALLENGER
        answer(START + HOUR, known.unit, other)
        deliver(START, "early")
        answer(START + HOUR, "early", CHALLENGER)
        answer(TRAINED_TO - HOUR, "back", CHALLENGER)
        answer(START + 30 * DAY, "ahead", CHALLENGER)
        office.tick(START - DAY)  # the clock steps back: nothing is judged twice
        office.tick(START + 2 * DAY)
        drain(keeper)
        after = standing_of(keeper, office, START + 2 * DAY)
        seen = {
            row.unit: row.target for row in keeper._results["late"].settled("lateness", 0, START + 90 * DAY)
        }
        assert seen["early"] == 0.0
        assert "ahead" not in seen
        old, new = before.units["lateness"], after.units["lateness"]
        assert (old.crossed, new.crossed) == (0, 1)
        waiting = {r.unit for r in exposed(folder) if START - DAY < r.at <= START} - {known.unit}
        assert len(new.value) == len(old.value) - 1 + 1 + len(waiting)
