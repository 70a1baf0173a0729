"""The commands on a real project: results, stable keys, faults, exit statuses."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import duckdb
import msgspec
import pytest

from icekeel.app import App
from icekeel.cli.main import COMMANDS
from icekeel.cli.scaffold import scaffold
from icekeel.define.audits import AUDITS
from icekeel.journal import Quarantined, QuarantinedRow, Writer
from icekeel.registry import Alert as RegistryAlert
from icekeel.testing.small import write_small_project
from icekeel.training.audits import ALWAYS

from .conftest import NOW, Call, Said

NAMES = [*(command.__name__.rstrip("_") for command in COMMANDS), "models"]
DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_and_a_line_in_the_documentation(name: str, call: Call) -> None:
    said = call(name, "--help")
    assert said.status == 0
    assert "Usage: icekeel" in said.out
    assert f"| `{name}" in (DOCS / "commands.md").read_text()


def test_help_loads_nothing_heavy() -> None:
    program = "import sys, icekeel.cli.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"numpy", "duckdb", "lmdb", "sqlalchemy", "sklearn", "scipy", "lightgbm", "starlette", "uvicorn"}
    assert heavy & set(done.stdout.split()) == set()


def test_check_counts_what_there_is(shop: Path, call: Call) -> None:
    assert call("check", "--project", shop, "--json").json == {
        "tables": ["Orders", "Deliveries"],
        "models": {"minutes": {"features": 12, "windows": 5, "views": 3}},
    }
    assert "minutes   12" in call("check", "--project", shop).out


def test_a_broken_project_names_every_fault_with_its_line(shop: Path, tmp_path: Path, call: Call) -> None:
    text = (shop / "project.py").read_text()
    text = text.replace('last("1h")', 'last("1hour")').replace("items.sum()", "item.sum()")
    (tmp_path / "project.py").write_text(text)
    said = call("check", "--project", tmp_path)
    assert said.status == 1
    assert said.out == ""
    assert 'did you mean "1h"?' in said.err
    assert 'did you mean "items"?' in said.err
    lines = re.findall(r"@ project.py:(\d+) Features", said.err)
    assert len(set(lines)) == 2
    assert '"code":"bad_duration"' in call("check", "--project", tmp_path, "--json").err


def test_without_a_project_the_hint_is_init(tmp_path: Path, call: Call) -> None:
    said = call("check", "--project", tmp_path)
    assert (said.status, "icekeel init" in said.err) == (1, True)


def test_a_command_that_does_not_exist_is_exit_status_2(call: Call) -> None:
    assert call("trian").status == 2


def test_plan_shows_what_features_read(shop: Path, call: Call) -> None:
    rows = {row["feature"]: row for row in call("plan", "--project", shop, "--json").json}
    assert rows["hour_sin"]["request"] == ["asked_at"]
    assert rows["items_30m"]["windows"] == ["Orders by kitchen, last 30m: sum of items"]
    assert len(rows["slower_than_usual"]["windows"]) == 2
    assert rows["items_30m"]["why"] in (["new"], ["unchanged"])
    assert rows["items_30m"]["compute"] + rows["items_30m"]["kept"] == rows["hour_sin"]["compute"] > 0
    assert rows["hour_sin"]["why"] == ["reads no events: never kept"]
    assert 'did you mean "minutes"?' in call("plan", "minute", "--project", shop).err


def test_ingest_says_what_it_knows_already(shop: Path, call: Call) -> None:
    rows = call("ingest", "--project", shop, "--json").json
    assert [set(row) for row in rows] == [
        {
            "table",
            "source",
            "kept",
            "changed",
            "deleted",
            "quarantined",
            "skipped",
            "reasons",
            "warned",
            "notes",
        }
    ] * 2
    assert all(row["skipped"] and not row["kept"] for row in rows)
    assert "everything had been taken in before" in call("ingest", "--project", shop).err
    assert 'did you mean "Orders"?' in call("ingest", "Order", "--project", shop).err


def test_quarantine_shows_rows_of_files_and_pushed_ones(shop: Path, tmp_path: Path, call: Call) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(shop, folder)
    with Writer(folder / ".icekeel" / "journal", "serve", clock=lambda: NOW) as journal:
        bad = QuarantinedRow({"order_id": 7}, ["order_id: wrong type"])
        journal.append(Quarantined(at=NOW, table="Orders", rows=[bad]))
    orders, deliveries = call("quarantine", "--project", folder, "--json").json
    (shown,) = orders["examples"]
    assert (shown["row"], shown["faults"]) == ({"order_id": 7}, ["order_id: wrong type"])
    assert deliveries["reasons"] == {"minutes: not 1 to 240": 3}
    assert deliveries["rows"] == 3
    assert [one["row"]["minutes"] for one in deliveries["examples"]] == ["-1.0", "-1.0", "-1.0"]
    assert "minutes: not 1 to 240" in call("quarantine", "Deliveries", "--project", folder).out
    assert call("quarantine", "Orders", "--project", shop).err == "nothing is in quarantine\n"
    assert 'did you mean "Orders"?' in call("quarantine", "Order", "--project", shop).err


def test_reasons_of_pushed_rows_are_counted_whatever_the_row(shop: Path, tmp_path: Path, call: Call) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(shop, folder)
    with Writer(folder / ".icekeel" / "journal", "serve", clock=lambda: NOW) as journal:
        bad = [
            QuarantinedRow({"items": n}, [f"out of range @ rows[{n}].items, got {n}; allowed: 1 to 30; more"])
            for n in (40, 50)
        ]
        bad.append(QuarantinedRow({"value": 3}, ["expected an object @ rows[4], got 3"]))
        journal.append(Quarantined(at=NOW, table="Orders", rows=bad))
    said = {"items: out of range": 2, "expected an object": 1}
    assert call("quarantine", "Orders", "--project", folder, "--json").json[0]["reasons"] == said
    moved = call("compact", "--project", folder, "--json").json
    assert {"table": "quarantine/Orders", "rows": 3, "files_fewer": 0} in moved
    (moved,) = call("quarantine", "Orders", "--project", folder, "--json").json
    assert moved["reasons"] == said
    assert "got 40; allowed: 1 to 30; more" in moved["examples"][0]["faults"][0]


def test_a_taken_port_is_said(shop: Path, call: Call) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        got = call("serve", "--project", shop, "--port", port)
    assert got.status == 1
    assert f"cannot listen on 127.0.0.1, port {port}, got Address already in use; --port 0" in got.err
    assert "port must be 0-65535" in call("serve", "--project", shop, "--port", 70_000).err


def test_a_dataset_is_written_as_it_was_known_then(shop: Path, tmp_path: Path, call: Call) -> None:
    out, then = tmp_path / "train.parquet", "2025-03-03T12:00:00Z"
    said = call("dataset", "minutes", "--out", out, "--now", then, "--project", shop, "--json").json
    assert list(said) == ["out", "now", "rows", "known", "absent", "pending", "features"]
    assert (said["out"], said["now"], len(said["features"])) == (str(out), then, 12)
    rows = duckdb.from_parquet(str(out))
    assert rows.columns[:5] == ["order_id", "kitchen", "district", "items", "distance_km"]
    assert rows.columns[-2:] == ["_target", "_status"]
    assert len(rows) == said["rows"] == said["known"] + said["absent"] + said["pending"]
    assert rows.aggregate("max(_asked_at) <= TIMESTAMP '2025-03-03 12:00:00'").fetchall() == [(True,)]
    assert rows.filter("(_target IS NULL) = (_status = 'known')").fetchall() == []
    assert said["known"] > 1_000
    assert said["pending"] > 0
    assert [file.name for file in tmp_path.iterdir()] == ["train.parquet"]


def test_a_dataset_of_given_questions_keeps_their_rows(shop: Path, tmp_path: Path, call: Call) -> None:
    asked, out = tmp_path / "asked.csv", tmp_path / "out.csv"
    asked.write_text("kitchen,at,note\nmarket,2025-03-02T12:00:00Z,b\nharbour,2025-03-01T12:00:00Z,a\n")
    options = (
        "--questions",
        asked,
        "--asked-at",
        "at",
        "--features",
        "orders_1h, items_30m",
        "--project",
        shop,
    )
    said = call("dataset", "minutes", "--out", out, *options)
    assert (said.status, "order_id" in said.err) == (1, True)  # an answer meets its outcome by it
    asked.write_text(
        asked.read_text().replace("kitchen", "order_id,kitchen").replace("\n", "\nx,").removesuffix("x,")
    )
    said = call("dataset", "minutes", "--out", out, *options)
    assert "2 features" in said.err
    assert "absent" in said.out
    header, first, second = out.read_text().splitlines()
    assert header == "order_id,kitchen,at,note,feature.orders_1h,feature.items_30m,_target,_status"
    assert [line.split(",")[3] for line in (first, second)] == ["b", "a"]


def test_a_training_set_of_features_that_changed_since_says_so(
    shop: Path, tmp_path: Path, call: Call
) -> None:
    folder = Path(shutil.copytree(shop, tmp_path / "shop"))
    path = folder / "project.py"
    path.write_text(path.read_text().replace('last("2h")', 'last("3h")'))
    options = ("--snapshot", "minutes-1", "--out", tmp_path / "now.parquet", "--project", folder)
    said = call("dataset", "minutes", *options)
    assert (said.status, "defined otherwise than when minutes-1 was trained" in said.err) == (0, True)


def test_what_a_version_learnt_from_is_listed_written_again_and_compared(
    shop: Path, tmp_path: Path, call: Call
) -> None:
    (listed,) = call("snapshots", "--project", shop, "--json").json
    assert list(listed) == ["digest", "model", "now", "tables", "rows", "bytes", "alone", "versions", "runs"]
    assert (listed["versions"], len(listed["runs"])) == (["minutes-1"], 1)
    assert "minutes-1" in call("snapshots", "--project", shop).out
    out = tmp_path / "learnt.parquet"
    options = ("--snapshot", "minutes-1", "--out", out, "--project", shop)
    written = call("dataset", "minutes", *options, "--json")
    assert "defined otherwise" not in written.err
    said = written.json
    assert said["now"] == listed["now"] == "2025-03-05T15:00:00Z"
    then = call(
        "dataset", "minutes", "--out", tmp_path / "then.parquet", "--now", said["now"], "--project", shop
    )
    assert then.status == 0
    assert out.read_bytes() == (tmp_path / "then.parquet").read_bytes()
    both = call("dataset", "minutes", *options, "--now", "2025-03-05")
    assert (both.status, "leave out --now" in both.err) == (1, True)
    changes = call("snapshots", "diff", "minutes-1", listed["digest"][:8], "--project", shop, "--json").json
    assert {one["table"] for one in changes} == {"Deliveries", "Orders", "questions/minutes"}
    assert all(one["added"] == one["removed"] == one["corrected"] == 0 for one in changes)
    assert (
        "distributed as it was" in call("snapshots", "diff", "minutes-1", "minutes-1", "--project", shop).err
    )
    assert call("snapshots", "prune", "--project", shop).out == "0 snapshots removed, 0.0 MB freed\n"
    since = call("snapshots", "diff", "minutes-1", "now", "--project", shop, "--json").json
    shown = [
        name
        for one in since
        for name in (
            *one["columns_added"],
            *one["columns_removed"],
            *(two["column"] for two in one["columns"]),
        )
    ]
    assert shown
    assert not [name for name in shown if name.startswith("_")]
    lasting = call("snapshots", "prune", "--keep", "foo", "--project", shop)
    assert (lasting.status, '@ --keep, got foo; allowed: "30d"' in lasting.err) == (1, True)
    for wrong in (
        ("prune", "minutes-1"),
        ("diff",),
        ("list", "--keep", "1d"),
        ("show",),
        ("diff", "minutes-2"),
    ):
        assert call("snapshots", *wrong, "--project", shop).status == 1


def test_a_dataset_names_every_fault(shop: Path, tmp_path: Path, call: Call) -> None:
    wrong = call(
        "dataset", "minutes", "--out", tmp_path / "no" / "x.xls", "--asked-at", "at", "--project", shop
    )
    assert (wrong.status, wrong.err.count("error")) == (1, 3)
    wrong = call(
        "dataset", "minutes", "--out", tmp_path / "x.csv", "--features", "order_1h", "--project", shop
    )
    assert (wrong.status, 'did you mean "orders_1h"?' in wrong.err) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_versions_decisions_and_alerts_are_lists_with_stable_keys(shop: Path, call: Call) -> None:
    (version,) = call("models", "--project", shop, "--json").json
    assert version == {
        "version": "minutes-1",
        "serves_as": ["champion"],
        "features": "Features",
        "rung": "linear",
        "registered_at": "2025-03-05T15:00:00Z",
        "by": "train",
        "failed_gates": [],
        "overrides": [],
    }
    (decision,) = call("decisions", "--project", shop, "--json").json
    assert set(decision) == {"at", "model", "decision", "version", "reason", "id", "evidence"}
    assert decision["decision"] == "promote"
    assert call("alerts", "--project", shop, "--json").json == []
    assert call("alerts", "--project", shop).err == "no alerts\n"


def test_audit_says_what_could_not_be_compared_and_rebuild_who_did_it(
    shop: Path, tmp_path: Path, call: Call
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(shop, folder)
    made = call("rebuild", "--project", folder, "--json").json
    assert set(made) == {"online", "by", "seconds"}
    assert made["by"] == "rebuild"
    (skew,) = call("audit", "minutes", "--only", "skew", "--project", folder, "--json").json["audits"]
    assert skew["evidence"] == {"rows": 0, "features": 12, "late": 0, "left_out": {}, "differences": []}
    assert "no answer was compared" in call("audit", "minutes", "--only", "skew", "--project", folder).out
    assert 'did you mean "minutes"?' in call("audit", "minute", "--project", folder).err
    assert 'did you mean "leakage"?' in call("audit", "minutes", "--only", "leak", "--project", folder).err


def test_all_audits_are_made_told_and_kept(shop: Path, call: Call) -> None:
    found = call("audit", "minutes", "--now", "2025-03-05T15:00", "--project", shop, "--json").json
    assert (found["model"], found["version"], found["blocked"]) == ("minutes", "minutes-1", False)
    names = [one["audit"] for one in found["audits"]]
    assert names == [name for name in AUDITS if name in names]
    assert set(names) >= {"representation", "leakage", "subgroups", "skew"}
    assert set(found["audits"][0]) == {"audit", "verdict", "what", "usd_per_year", "todo", "evidence"}
    registry = App(shop).registry()
    try:
        (run,) = [run for run in registry.runs("audit") if len(run.details["findings"]) == len(names)]
        assert [one["audit"] for one in run.details["findings"]] == names
        (version,) = registry.versions("minutes")
        assert {one["audit"] for one in version.metrics["audits"]} <= set(ALWAYS)
        assert {gate["name"] for gate in version.gates} >= {
            f"audit_{name}" for name in ("leakage", "subgroups")
        }
    finally:
        registry.close()


def test_promotion_and_roll_back_by_hand_name_their_faults(shop: Path, call: Call) -> None:
    said = call("promote", "minutes-2", "--reason", "better", "--project", shop)
    assert (said.status, 'did you mean "minutes-1"?' in said.err) == (1, True)
    said = call("rollback", "minutes", "--reason", "worse", "--project", shop)
    assert (said.status, "no champion before this one" in said.err) == (1, True)
    said = call("rollback", "minutes", "--reason", "worse", "--expect", "minutes-0", "--project", shop)
    assert (said.status, "another version serves already" in said.err) == (1, True)
    done = call("promote", "minutes-1", "--reason", "same", "--project", shop, "--json")
    assert done.json == {"model": "minutes", "champion": "minutes-1"}


def test_a_training_that_cannot_be_is_refused_before_anything_is_computed(shop: Path, call: Call) -> None:
    before = call("snapshots", "--project", shop, "--json").json
    said = call("train", "minutes", "--rung", "lightgmb", "--project", shop)
    assert (said.status, 'did you mean "lightgbm"?' in said.err, "past questions" in said.err) == (
        1,
        True,
        False,
    )
    said = call("train", "minutes", "--now", "2999-01-01", "--project", shop)
    assert (said.status, "@ --now, got 2999-01-01; allowed: at most" in said.err) == (1, True)
    assert call("snapshots", "--project", shop, "--json").json == before


def test_explain_names_what_is_near_of_models_and_versions(shop: Path, call: Call) -> None:
    for given, near in (("minutez", '"minutes"'), ("minutes-2", '"minutes-1"')):
        said = call("explain", given, "--project", shop)
        assert (said.status, f"did you mean {near}?" in said.err) == (1, True)
    assert "an answer has 28 hexadecimal digits" in call("explain", "0123", "--project", shop).err


def test_rows_that_are_not_in_quarantine_are_an_exit_status(shop: Path, tmp_path: Path, call: Call) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(shop, folder)
    said = call("quarantine", "dismiss", "Deliveries", "x-1", "--reason", "r", "--project", folder, "--json")
    assert (said.status, said.json["dismissed"], len(said.json["faults"])) == (1, 0, 1)
    (found,) = call("quarantine", "Deliveries", "--project", folder, "--json").json
    one = found["examples"][0]["id"]
    for done in (1, 0):  # some are taken; again nothing is to do, which is no fault
        said = call(
            "quarantine", "dismiss", "Deliveries", one, "--reason", "r", "--project", folder, "--json"
        )
        assert (said.status, said.json["dismissed"]) == (0, done)


def test_config_says_where_each_value_comes_from(
    shop: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICEKEEL_PORT", "9000")
    found = call("config", "--project", shop, "--json").json
    assert found["port"] == {"value": 9000, "source": "environment"}
    assert found["host"] == {"value": "127.0.0.1", "source": "default"}
    monkeypatch.setenv("ICEKEEL_PROT", "9000")
    assert 'did you mean "port"?' in call("config", "--project", shop).err


def test_a_token_is_printed_once(shop: Path, call: Call) -> None:
    assert call("token", "desk", "--scope", "predict", "--project", shop).out.startswith("ik_")
    said = call("token", "desk", "--scope", "guess", "--project", shop)
    assert (said.status, "allowed: predict" in said.err) == (1, True)


def test_up_of_a_demo_that_has_not_run_says_how_to_run_it(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = call("up", "flights")
    assert (said.status, "icekeel demo flights" in said.err) == (1, True)


@pytest.mark.parametrize(("said", "status"), [("Query interrupted", 130), ("something else", None)])
def test_ctrl_c_inside_a_query_is_ctrl_c(
    said: str, status: int | None, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        raise RuntimeError(said)

    monkeypatch.setattr("icekeel.cli.main.cli", interrupted)
    if status is None:
        with pytest.raises(RuntimeError, match=said):
            call("plan")
    else:
        assert call("plan").status == status


def test_tokens_are_made_listed_and_revoked(tmp_path: Path, call: Call) -> None:
    scaffold(tmp_path / "shop", lambda text: None)
    here = ("--project", tmp_path / "shop")
    made = call("token", "ann", "--scope", "predict", "--scope", "read", *here, "--json").json
    assert made["token"].startswith("ik_")
    listed = call("token", *here, "--json").json
    assert listed == [{"name": "admin", "scopes": ["admin"]}, {"name": "ann", "scopes": ["predict", "read"]}]
    assert call("token", "ann", "--revoke", *here, "--json").json == {"name": "ann", "revoked": True}
    assert call("token", "ann", "--revoke", *here).status == 1
    assert msgspec.json.decode(call("token", "bob", *here, "--json").err)["error"] == "missing_option"
    assert [one["name"] for one in call("token", *here, "--json").json] == ["admin"]


def test_ctrl_c_is_ctrl_c_while_the_command_loads() -> None:
    program = """
import sys
class Interrupted:
    def find_spec(self, name, *rest):
        if name in ("typer", "icekeel.define"):
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
sys.argv = ["icekeel", "plan"]
import icekeel.__main__
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    scripts = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"icekeel": "icekeel.cli.entry:main"}
    light = "import sys, icekeel.cli.entry; print(sorted(n for n in sys.modules if n.startswith('icekeel')))"
    done = subprocess.run([sys.executable, "-c", light], capture_output=True, text=True, check=True)
    assert done.stdout == "['icekeel', 'icekeel.cli', 'icekeel.cli.entry']\n"


@pytest.fixture
def late(tmp_path: Path) -> Path:
    """A project with one open alert about bad data."""
    folder = tmp_path / "small"
    write_small_project(folder)
    app = App(folder)
    registry = app.registry()
    evidence = {
        "title": "Scans: late",
        "sentences": ["nothing for 3 h"],
        "diagnosis": "bad data",
        "examples": ["p1"],
    }
    registry.record(
        RegistryAlert(
            id="abc123",
            at=app.clock(),
            model="late",
            cause="source Scans",
            todo="look at the feed",
            evidence=evidence,
        )
    )
    registry.close()
    return folder


def fault_of(said: Said) -> str:
    return str(json.loads(said.err.splitlines()[-1])["error"])


def test_an_alert_is_listed_shown_acknowledged_muted_and_resolved(late: Path, call: Call) -> None:
    alert, where = "abc123", ("--project", late, "--json")
    (row,) = call("alerts", "late", "--open", *where).json
    assert (row["id"], row["state"], row["usd_per_day"]) == (alert, "open", None)
    assert call("alerts", "list", "late", *where).json == [row]
    assert (
        call("alerts", "ack", "abc", "--reason", "mine", "--by", "ann", *where).json["state"]
        == "acknowledged"
    )
    assert (
        call("alerts", "mute", alert, "--until", "4h", "--reason", "known", *where).json["state"] == "muted"
    )
    text = call("alerts", "show", alert, "--project", late).out
    assert all(
        one in text for one in ("nothing for 3 h", "look at the feed", "icekeel trace p1", "ann", "muted")
    )
    assert call("alerts", "resolve", alert, "--reason", "mended", *where).json["resolved_at"]
    assert call("alerts", "--open", *where).json == []
    history = [one["state"] for one in call("alerts", "show", alert, *where).json["history"]]
    assert history == ["acknowledged", "muted", "resolved"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("show",), "missing_option"),
        (("test", "abc123"), "missing_option"),
        (("mute", "abc123", "--reason", "r"), "missing_option"),
        (("ack", "abc123", "--until", "4h", "--reason", "r"), "missing_option"),
        (("ack", "abc123"), "no_reason"),
        (("ack", "zzz", "--reason", "r"), "unknown_alert"),
        (("mute", "abc123", "--until", "2001-01-01", "--reason", "r"), "bad_until"),
        (("close", "abc123"), "unknown_action"),
        (("mute", "abc123", "--until", "99999999999d", "--reason", "r"), "bad_until"),
        (("export",), "missing_option"),
        (("export", "--out", "/dev/null"), "not_written"),
    ],
)
def test_what_cannot_be_done_with_an_alert_is_said(
    late: Path, call: Call, words: tuple[str, ...], code: str
) -> None:
    got = call("alerts", *words, "--project", late, "--json")
    assert (got.status, fault_of(got)) == (1, code)


def test_bad_data_keep_a_model_from_being_trained_without_a_reason(late: Path, call: Call) -> None:
    got = call("train", "late", "--project", late, "--json")
    assert (got.status, fault_of(got)) == (1, "training_blocked")
    assert call("decisions", "--project", late, "--json").json == []
    call("train", "late", "--override", "the gap is old", "--now", "1999-01-01", "--project", late)
    (decision,) = call("decisions", "--project", late, "--json").json
    assert (decision["decision"], "the gap is old" in decision["reason"]) == ("override_block", True)


def test_rules_are_exported_and_channels_tested(late: Path, call: Call, tmp_path: Path) -> None:
    written = call("alerts", "export", "--out", tmp_path / "prom", "--project", late, "--json").json[
        "written"
    ]
    assert [Path(one).name for one in written] == ["icekeel-rules.yml", "icekeel-dashboard.json"]
    (late / "icekeel.toml").write_text('notify = ["https://127.0.0.1:1/very-secret"]\n')
    got = call("alerts", "test", "--project", late, "--json")
    assert (got.status, got.json[0]["took_it"]) == (1, False)
    assert "very-secret" not in got.out + got.err + call("config", "--project", late, "--json").out
    (late / "icekeel.toml").write_text('notify = ["no address"]\n')
    assert fault_of(call("config", "--project", late, "--json")) == "bad_setting"


def test_a_test_without_channels_fails_and_says_in_one_line_how_to_name_one(late: Path, call: Call) -> None:
    said = call("alerts", "test", "--project", late)
    assert (said.status, said.out, said.err.count("\n")) == (1, "", 1)
    assert "no channels" in said.err
    assert "notify = [" in said.err
    assert fault_of(call("alerts", "test", "--project", late, "--json")) == "no_channels"


def test_a_folder_is_no_file_to_write(tmp_path: Path, call: Call) -> None:
    table = tmp_path / "t.csv"
    table.write_text("unit,arm,won\nu1,a,1\nu2,b,0\n")
    said = call("experiment", "analyse", table, "--value", "won", "--out", tmp_path, "--json")
    assert (said.status, fault_of(said)) == (1, "is_folder")


@pytest.mark.parametrize("group", ["models", "experiment"])
def test_options_before_a_command_of_a_group_are_not_ignored(call: Call, group: str) -> None:
    said = call(group, "--json", "show", "late")
    assert (said.status, "misplaced_option" in said.err) == (1, True)
