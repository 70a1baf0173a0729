"""What features are worth, on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Call


def test_the_report_is_a_table_a_page_and_json(
    shop: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = call("features", "--project", shop)
    assert said.status == 0
    assert "features carry" in said.err
    assert "wrote features-minutes.html" in said.err
    assert said.out.splitlines()[0].split()[:3] == ["feature", "kind", "share"]
    assert "Features of minutes" in (tmp_path / "features-minutes.html").read_text()
    (tmp_path / "features-minutes.html").unlink()
    found = call("features", "minutes", "--project", shop, "--json").json
    assert list(tmp_path.iterdir()) == []
    assert found["model"] == "minutes"
    assert {one["name"] for one in found["features"]} > {"distance_km"}
    assert abs(sum(one["share"] for one in found["features"]) - 1) < 1e-9


def test_a_feature_is_tried(shop: Path, call: Call) -> None:
    name = call("features", "--project", shop, "--json").json["features"][0]["name"]
    said = call("try", name, "--project", shop)
    assert said.status == 0
    assert f"{name} is worth having" in said.err
    assert call("try", name, "--project", shop, "--json").json["worth"]["low"] > 0


def test_what_is_not_there_is_named(shop: Path, call: Call) -> None:
    said = call("try", "distance", "--project", shop)
    assert said.status == 1
    assert 'did you mean "distance_km"?' in said.err
    assert 'no model "minute"' in call("features", "minute", "--project", shop).err
    assert (
        "no such folder @ --out" in call("features", "--project", shop, "--out", shop / "no" / "x.html").err
    )
