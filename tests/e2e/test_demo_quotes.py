from __future__ import annotations

from pathlib import Path

import pytest

from icekeel.app import App
from icekeel.core.time import DAY
from icekeel.examples.quotes.cases import MODEL
from icekeel.examples.quotes.demo import END, LIVE, run
from icekeel.journal import Predicted, scan
from icekeel.registry import CHAMPION, Registry
from icekeel.settings import Settings

N = 4_000


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder, said = tmp_path_factory.mktemp("demo"), list[str]()
    run(folder, fresh=False, say=said.append, n=N)
    return folder, said


def answers(folder: Path) -> dict[str, Predicted]:
    journal = folder / ".icekeel" / "journal"
    return {record.key: record for record in scan(journal, kinds=Predicted)}


def test_every_later_quote_is_answered_by_the_engineered_version(demo: tuple[Path, list[str]]) -> None:
    later = [record for record in answers(demo[0]).values() if record.at <= END]
    assert len(later) > N * (END - LIVE) / DAY / 730
    assert {record.version for record in later} == {"price-2"}
    assert sum(record.verdict == "refused" for record in later) <= 0.02 * len(later)
    registry = Registry(demo[0] / ".icekeel" / "registry.db", clock=lambda: END)
    assert registry.aliases(MODEL)[CHAMPION].version == "price-2"
    registry.close()


def test_the_same_algorithm_errs_less_with_engineered_features(demo: tuple[Path, list[str]]) -> None:
    registry = Registry(demo[0] / ".icekeel" / "registry.db", clock=lambda: END)
    raw, engineered = (
        next(step["error"] for step in registry.version(name).ladder["steps"] if step["rung"] == "lightgbm")
        for name in ("price-1", "price-2")
    )
    registry.close()
    assert engineered < 0.9 * raw


def test_the_never_seen_job_is_refused_and_each_pair_answered(demo: tuple[Path, list[str]]) -> None:
    found = answers(demo[0])
    assert [found[f"case-{place}"].verdict for place in range(6)] == ["pass"] * 4 + ["refused"] * 2
    job = found["case-4"]
    assert job.answer < 10_000
    assert "die_cut=custom + ink=metallic + turnaround=rush" in job.reasons[0]


def test_floors_and_rounding_stand_between_model_and_answer(demo: tuple[Path, list[str]]) -> None:
    found = answers(demo[0])
    assert all(record.answer % 5 == 0 for record in found.values())
    beyond = found["case-5"]
    assert beyond.prediction < float(beyond.request["material_cost"] or 0) - 100_000
    assert abs(beyond.answer - float(beyond.request["material_cost"] or 0)) <= 2.5


def test_pushed_orders_change_the_next_answer(demo: tuple[Path, list[str]]) -> None:
    before, after = (answers(demo[0])[f"news-{place}"] for place in range(2))
    assert before.features["customer_value"] == 0
    assert after.features["customer_value"] == pytest.approx(40_000 * 1.35)
    assert after.answer < before.answer


def test_every_served_feature_equals_the_one_recomputed(demo: tuple[Path, list[str]]) -> None:
    audit = App(demo[0], Settings(rehearsal=True)).audit(MODEL, limit=1_000)
    assert audit.rows > 300
    assert audit.left_out == {}
    assert audit.differences == ()


def test_the_report_stands_alone_and_says_what_its_figures_are(demo: tuple[Path, list[str]]) -> None:
    page = (demo[0] / "report.html").read_text(encoding="utf-8")
    assert "chosen so that features matter" in page
    assert "refused (HTTP 422)" in page
    assert "<script" not in page
    assert "https://" not in page.replace("https://vega", "")
    assert not any(f"C{number:04}" in page for number in range(1_200))  # customers are private


def test_a_second_run_reuses_all_and_answers_the_same(demo: tuple[Path, list[str]]) -> None:
    folder, first = demo
    before, again = answers(folder), list[str]()
    run(folder, fresh=False, say=again.append, n=N)
    after = answers(folder)
    assert sum("reused" in line for line in again) == 7
    assert not any("reused" in line for line in first)
    assert {key: record.answer for key, record in after.items()} == {
        key: record.answer for key, record in before.items()
    }
    assert after["case-0"].id != before["case-0"].id
