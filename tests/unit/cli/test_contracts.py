"""`icekeel contract`: drafts what loads, checks without taking, says what is demanded."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Call

GOOD = "order_id,kitchen,district,minutes,delivered_at\no1,market,old town,30,2025-03-01T12:00:00Z\n"


def test_a_file_is_checked_and_nothing_is_taken(shop: Path, tmp_path: Path, call: Call) -> None:
    before = (shop / ".icekeel" / "history" / "manifest.json").read_bytes()
    (tmp_path / "d.csv").write_text(GOOD + "o2,market,old town,300,2025-03-01T12:00:00Z\n")
    here = ("contract", "check", "Deliveries", tmp_path / "d.csv", "--project", shop)
    (found,) = call(*here, "--json").json
    assert (found["rows"], found["set_aside"], found["verdict"], found["batch"]) == (2, 1, "quarantine", [])
    broken = [rule for rule in found["rules"] if rule["rows"]]
    assert broken == [
        {
            "rule": "minutes: not 1 to 240",
            "policy": "quarantine",
            "rows": 1,
            "examples": [{"row": 2, "value": 300.0}],
        }
    ]
    said = call(*here)
    assert (said.status, "300.0 in row 2" in said.out, "1 would be set aside" in said.err) == (0, True, True)
    assert (shop / ".icekeel" / "history" / "manifest.json").read_bytes() == before
    assert call("contract", "check", "--project", shop).status == 0


def test_a_batch_that_would_be_refused_is_an_error(shop: Path, tmp_path: Path, call: Call) -> None:
    text = (shop / "project.py").read_text()
    (tmp_path / "project.py").write_text(
        text.replace("ik.between(1, 240)", 'ik.between(1, 240, breach="block")')
    )
    (tmp_path / "d.csv").write_text(GOOD.replace(",30,", ",300,"))
    said = call("contract", "check", "Deliveries", tmp_path / "d.csv", "--project", tmp_path)
    assert (said.status, "refused as a whole" in said.err, "not 1 to 240" in said.out) == (1, True, True)


def test_a_header_without_rows_breaks_nothing(shop: Path, tmp_path: Path, call: Call) -> None:
    (tmp_path / "d.csv").write_text(GOOD.splitlines()[0] + "\n")
    said = call("contract", "check", "Deliveries", tmp_path / "d.csv", "--project", shop)
    assert (said.status, "0 rows" in said.err, "0 would be set aside: pass" in said.err) == (0, True, True)


def test_demands_are_sentences(shop: Path, call: Call) -> None:
    demands = call("contract", "show", "Deliveries", "--project", shop, "--json").json
    assert {"table": "Deliveries", "demand": "minutes is 1 to 240", "policy": "quarantine"} in demands
    assert "columns keep their types" in call("contract", "show", "--project", shop).out


def test_a_contract_is_drafted_from_a_file_or_a_tables_source(shop: Path, tmp_path: Path, call: Call) -> None:
    (tmp_path / "more-orders.csv").write_text(GOOD)
    drafted = call("contract", "draft", tmp_path / "more-orders.csv", "--json").json
    assert (drafted["table"], drafted["columns"][0]["column"]) == ("MoreOrders", "order_id")
    assert call("contract", "draft", tmp_path / "more-orders.csv").out == drafted["contract"]
    said = call("contract", "draft", "Deliveries", "--project", shop)
    assert "class Deliveries(ik.Events" in said.out and "minutes: ik.Num = ik.between(" in said.out


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("contract", "chek"), 'did you mean "check"?'),
        (("contract", "check", "Deliverys"), 'did you mean "Deliveries"?'),
        (("contract", "check", "Deliveries", "none.csv"), "no such file"),
        (("contract", "draft", "nothing.parquet"), "nor a file"),
        (("quarantine", "export", "Deliveries"), "--out rows.csv"),
        (("quarantine", "dismiss", "Deliveries", "x"), "--reason"),
        (("quarantine", "exprt", "Deliveries"), 'did you mean "export"?'),
        (("quarantine", "export", "Deliveries", "--out", "none/bad.csv"), "no such folder"),
        (("quarantine", "admit", "Deliveries", "none.csv"), "No such file or directory @ none.csv"),
        (("quarantine", "admit"), "needs a table"),
        (("quarantine", "admit", "outcomes", "x.csv"), "send the outcomes again"),
    ],
)
def test_faults_of_the_command_line_say_what_to_do(
    shop: Path, call: Call, words: tuple[str, ...], hint: str
) -> None:
    said = call(*words, "--project", shop)
    assert (said.status, hint in said.err) == (1, True)
