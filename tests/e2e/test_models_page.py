"""The page about models of one's own: its blocks are run, its project is trained, served over HTTP and explained."""

from __future__ import annotations

import csv
import re
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from icekeel.core.time import DAY, HOUR, parse_time
from icekeel.define.estimators import FLAGS, NUMBERS

from ..integration.commands import command, icekeel

PAGE = Path(__file__).parents[2] / "docs" / "models-of-your-own.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
START = parse_time("2024-01-01")
NOW = START + 400 * DAY
GOOD, BAD = ("steady", "salary", "savings", "Gehalt"), ("gambling", "urgent", "overdue", "Schulden")


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the page's blocks define, run one after the other as one module."""
    found: dict[str, Any] = {"__name__": "models_page"}
    for block in BLOCKS:
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), found)
    return found


def test_the_tests_of_the_page_pass(names: dict[str, Any]) -> None:
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 3
    for test in tests:
        test()
    assert names["default"].faults() == []
    assert names["forest"].faults == ()


def test_every_estimator_that_can_be_exported_is_named() -> None:
    for name in (*FLAGS, *NUMBERS):
        family = name.removesuffix("Regressor").removesuffix("Classifier")
        assert f"`{name}`" in TEXT or f"`{family}`" in TEXT


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's project after `icekeel ingest` and `icekeel train`, with 3,600 loans."""
    folder = tmp_path_factory.mktemp("loans")
    (folder / "project.py").write_text(BLOCKS[0], encoding="utf-8")
    rng = np.random.default_rng(5)
    loans, ends = [], []
    for number in range(3_600):
        good, bad = rng.integers(0, 3), rng.integers(0, 3)
        words = [*rng.choice(GOOD, good), *rng.choice(BAD, bad), *rng.choice(["the", "a", "house", "für"], 9)]
        asked = START + int(number * 300 * DAY / 3_600)
        defaults = rng.random() < 1 / (1 + np.exp(-2.0 * (bad - good)))
        story = "" if number % 50 == 0 else " ".join(rng.permutation(words).tolist())
        purpose = ("roof", "card", "car")[int(rng.integers(3))]
        loans.append((f"l{number}", purpose, int(rng.gamma(2, 1e6)), story, asked))
        ends.append((f"l{number}", "false" if defaults else "true", asked + 20 * DAY + HOUR))
    tables = (
        ("loans", ("loan_id", "purpose", "amount_cents", "story", "asked_at"), loans),
        ("ends", ("loan_id", "paid", "ended_at"), ends),
    )
    for name, columns, rows in tables:
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([columns, *rows])
    icekeel(folder, "ingest")
    return folder


def test_a_text_is_learnt_from_served_and_explained(trained: Path) -> None:
    said = icekeel(trained, "train", "default")
    errors = said["errors"]
    assert list(errors) == ["group", "similar", "linear", "text", "lightgbm"]
    blind = min(errors[name] for name in ("group", "linear", "lightgbm"))
    assert errors["text"] < errors["similar"] < blind - 0.1
    assert said["decision"] == "promote", said
    token = icekeel(trained, "token", "me", "--scope", "admin")["token"]
    with (
        command(trained, "keep", now=NOW),
        command(trained, "serve", "--port", "0", now=NOW) as (_, ready),
    ):
        asked = {"loan_id": "new", "purpose": "Roof", "amount_cents": 900_000}

        def ask(story: str | None) -> dict[str, Any]:
            request = urllib.request.Request(
                f"http://127.0.0.1:{ready['listening']}/v1/predict/default",
                msgspec.json.encode({**asked, "story": story}),
                {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=20) as reply:
                found: dict[str, Any] = msgspec.json.decode(reply.read())
            return found

        risky, safe = ask("URGENT: gambling, Schulden!"), ask("a steady salary and savings")
        assert risky["prediction"] > 0.8 and safe["prediction"] < 0.2
        assert 0.01 <= ask(None)["prediction"] <= 0.99
        assert ask("融資 " * 2_000)["prediction"] == pytest.approx(ask("融資")["prediction"], abs=0.3)
    worth = {one["name"]: one for one in icekeel(trained, "features", "default")["features"]}
    assert worth["story"]["share"] > 0.9
    told = icekeel(trained, "explain", risky["prediction_id"])
    assert any(reason["feature"] in ('story: "gambling"', 'story: "schulden"') for reason in told["reasons"])
    assert "x  " not in told["sentence"] and 'story: "' in told["sentence"]
    assert len(told["similar"]) == 10 and sum(one["outcome"] for one in told["similar"]) >= 8
