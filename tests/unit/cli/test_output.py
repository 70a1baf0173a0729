"""Tables fit onto a page, and lists stay one line a row."""

from __future__ import annotations

import pytest

from icekeel.cli.output import WIDEST_PAGE, print_parts, print_rows

ROWS = [{"feature": f"f{i}", "what": "reads " + "many things " * 30, "share": 0.25} for i in range(3)]


def test_tables_of_a_page_fit_and_lists_are_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    print_parts([("Features", ["three"], ROWS)])
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= WIDEST_PAGE
    assert page.count("many") == 90 and page.count("0.25") == 3
    print_rows(ROWS, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and all(line.count("many") == 30 for line in lines[2:])
