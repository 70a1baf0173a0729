"""`icekeel review`, on a project in whose journal a flagged answer was put."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from icekeel.core.ids import new_id
from icekeel.core.time import HOUR, wall_clock
from icekeel.journal import Predicted, Writer
from tests.unit.journal.examples import PREDICTED

from .conftest import Call


@pytest.fixture
def asked(shop: Path, tmp_path: Path) -> tuple[Path, list[Predicted]]:
    """A project with a queue, and two flagged answers of it and one ordinary; the dearer one came later."""
    folder = tmp_path / "copy"
    shutil.copytree(shop, folder)
    project = folder / "project.py"
    text = project.read_text()
    assert "guard=ik.Guard(" in text
    project.write_text(text.replace("guard=ik.Guard(", 'guard=ik.Guard(review="30d", '))
    code, values = "unseen_pair:kitchen+district", {"kitchen": "market", "district": "moon"}
    flagged = {"codes": [code], "reasons": ["never seen together: market + moon"], "verdict": "refused"}
    records = []
    for answer, more in ((20.0, flagged), (100.0, flagged), (30.0, {"verdict": "pass", "codes": []})):
        at = wall_clock() - HOUR
        records.append(
            replace(PREDICTED, id=new_id(at), at=at, model="minutes", request=values, answer=answer, **more)
        )
    with Writer(folder / ".icekeel" / "journal", "serve", clock=wall_clock) as journal:
        journal.append_many(records)
    return folder, records


def test_what_waits_is_decided_and_taught(asked: tuple[Path, list[Predicted]], call: Call) -> None:
    folder, (cheap, dear, _) = asked
    listed = call("review", "--project", folder, "--json").json
    assert [one["prediction_id"] for one in listed] == [dear.id, cheap.id]
    assert "never seen together: market + moon" in call("review", "list", "--project", folder).out
    for who, record in (("ann", dear), ("bob", cheap)):
        said = call(
            "review", "accept", record.id, "--by", who, "--reason", "seen it", "--project", folder, "--json"
        )
        assert (said.json["status"], said.json["answer"]) == ("accepted", record.answer)
    assert call("review", "--project", folder).err == "nothing waits for a person\n"
    (lesson,) = call("review", "taught", "--project", folder, "--json").json
    assert lesson["values"] == {"kitchen": "market", "district": "moon"}
    assert (lesson["by"], lesson["cases"]) == (["ann", "bob"], [dear.id, cheap.id])
    said = call(
        "review", "reject", dear.id, "--by", "ann", "--answer", 70, "--reason", "no", "--project", folder
    )
    assert "rejected" in said.out
    assert call("review", "show", dear.id, "--project", folder, "--json").json["answer"] == 70
    assert call("review", "taught", "--project", folder).err.startswith("nobody")


def test_what_cannot_be_is_said(asked: tuple[Path, list[Predicted]], call: Call) -> None:
    folder, (cheap, _, ordinary) = asked
    assert 'did you mean "accept"?' in call("review", "acept", cheap.id, "--project", folder).err
    assert call("review", "show", "--project", folder).status == 1
    assert "does not wait" in call("review", "show", ordinary.id, "--project", folder).err
    assert (
        "needs who decides, and why @ reason" in call("review", "accept", cheap.id, "--project", folder).err
    )
