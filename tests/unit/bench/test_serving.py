"""What is measured of serving is what it says: the project, the arithmetic, and the client that drives a server."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from bench.serving import crashes, figures, guards, peers, shop, tasks
from bench.serving.load import Load
from icekeel.core.kinds import Kind
from icekeel.define import load_project
from icekeel.training.pipeline import guarded_columns


def test_the_project_has_30_features_and_guards_12_categories_and_4_numbers(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text(Path(shop.__file__).with_name("project.py").read_text())
    model = load_project(tmp_path).models["cost"]
    assert len(model.features.icekeel_features) == 30
    kinds = Counter(column.kind for column in guarded_columns(model))
    assert kinds == {Kind.CAT: len(shop.OPTIONS), Kind.NUM: 4}
    assert len(shop.OPTIONS) == 12
    assert set(shop.requests(1)[0]) == set(model.request.icekeel_fields)


def test_requests_are_the_same_each_time_and_of_many_keys() -> None:
    assert shop.requests(50) == shop.requests(50)
    asked = shop.requests(2_000)
    assert all(len({one[key] for one in asked}) > 1_000 for key in ("customer", "product", "store"))
    assert len({one["order_id"] for one in asked}) == 2_000


def test_every_figure_rests_on_tasks_that_exist() -> None:
    needed = {task for figure in figures.FIGURES for task in figure.tasks}
    assert needed | {task for extra in figures.EXTRAS.values() for task in extra} == set(tasks.TASKS)
    assert len({figure.key for figure in figures.FIGURES}) == len(figures.FIGURES)
    for figure in figures.FIGURES:
        assert figure.holds(figure.bar)
        assert not figure.holds(figure.bar + (1 if figure.most else -1) * 0.0001)


def test_the_least_recall_counts() -> None:
    figure = next(one for one in figures.FIGURES if one.key == "guard_recall")
    assert figure.value({"quotes_120k": {"recall": {"pair": 1.0, "range": 0.9}}}) == 0.9


def test_what_is_missing_or_twice_is_counted_in_each_place() -> None:
    told = ["a", "b", "c"]
    listed = {"journal": Counter(["a", "b", "c", "d"]), "history": Counter(["a", "b", "b", "b"])}
    found = crashes.compared(told, listed)
    assert found["lost_in"] == {"journal": 0, "history": 1}
    assert found["doubled_in"] == {"journal": 0, "history": 2}
    assert (found["lost"], found["doubled"]) == (1, 2)


def test_a_swap_is_as_late_as_the_last_request_that_the_old_version_answered() -> None:
    lines = [
        ["9.9", "10.0", "200", "i", "champion", "cost-1"],
        ["10.1", "10.2", "200", "i", "champion", "cost-2"],
        ["10.3", "10.4", "200", "i", "champion", "cost-1"],
        ["10.5", "10.6", "503", "-", "-", "-"],
        ["12.0", "12.1", "200", "i", "champion", "cost-1"],
    ]
    assert tasks.late_by(lines, 10.0, "cost-2", 11.0) == pytest.approx(0.3)
    assert tasks.late_by(lines, 10.4, "cost-2", 11.0) == 0
    assert tasks.late_by(lines, 10.4, "cost-2", np.inf) == pytest.approx(1.6)


def test_changed_rows_keep_the_rest() -> None:
    assert guards.with_values(["a", 1.0, None], ["x", "y", "z"], {"y": 2.0}) == ["a", 2.0, None]


@pytest.mark.parametrize("text", ['{"predictions": [3.25]}', "3.25", '{"prediction":3.25}'])
def test_the_number_in_a_peers_answer_is_found(text: str) -> None:
    assert peers.number_in(text) == 3.25


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
        body = json.dumps({"prediction_id": sent["id"], "arm": "champion", "version": "v"}).encode()
        if sent["id"] == "bad":
            self.close_connection = True
            return
        self.send_response(200 if sent["id"] != "shed" else 503)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_the_driver_keeps_its_pace_and_notes_every_answer(port: int, tmp_path: Path) -> None:
    bodies, log = tmp_path / "bodies", tmp_path / "log"
    bodies.write_text("".join(json.dumps({"id": name}) + "\n" for name in ("a", "shed", "b", "bad")))
    found = Load(port, "t", str(bodies), 1.0, connections=4, rate=200, log=str(log)).run()
    lines = [line.split() for line in log.read_text().splitlines()]
    answered = sum(found["statuses"].values())
    assert 0 < answered + found["lost"] + found["unsent"] < 270  # a Poisson process of 200
    assert len(lines) == answered
    assert 0 < found["lost"] < answered
    assert Counter(line[2] for line in lines) == {key: found["statuses"][key] for key in ("200", "503")}
    assert 0 < found["per_s"] <= found["statuses"]["200"]
    assert 0 < found["p50_ms"] <= found["p99_ms"]


def test_without_a_rate_a_connection_asks_as_soon_as_it_has_its_answer(port: int, tmp_path: Path) -> None:
    bodies = tmp_path / "bodies"
    bodies.write_text('{"id": "a"}\n')
    fast = Load(port, "t", str(bodies), 0.5, connections=1).run()
    slow = Load(port, "t", str(bodies), 0.5, connections=1, pause_s=0.05).run()
    assert slow["per_s"] <= 20 < fast["per_s"]
