"""The pages in a real browser: nothing runs, nothing sticks out, the theme is followed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path

import pytest

from icekeel.console import alert_page, alerts_page, render, status_page, trace_page
from tests.unit.console import samples

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
)
PROBE = """
const looks = [...document.querySelectorAll("iframe")].map(frame => {
  const page = frame.contentDocument, view = frame.contentWindow, root = page.documentElement;
  const label = page.querySelector("svg text");
  return {
    width: view.innerWidth, needs: root.scrollWidth, ran: view.ran ?? null,
    fetched: view.performance.getEntriesByType("resource").length,
    scripts: page.querySelectorAll("script").length,
    paper: view.getComputedStyle(page.body).backgroundColor,
    letters: label && view.getComputedStyle(label).fill,
  };
});
document.getElementById("looks").textContent = JSON.stringify(looks);
"""
HOSTILE = "</title><script>ran = 1</script><img src=x onerror='ran = 1'>" + "unbroken" * 30
Look = dict[str, int | str | None]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


def look(folder: Path, pages: list[tuple[str, int]], *, dark: bool = False) -> list[Look]:
    """What a browser makes of each page at its width in pixels; their scripts, if any, may run."""
    frames = "".join(
        f'<iframe srcdoc="{escape(html)}" style="width:{width}px;height:900px;border:0"></iframe>'
        for html, width in pages
    )
    file = folder / "probe.html"
    script = f'<pre id="looks"></pre><script>onload = () => {{ {PROBE} }}</script>'
    file.write_text(f'<!doctype html><meta charset="utf-8">{frames}{script}', encoding="utf-8")
    theme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    command = [
        str(CHROMIUM),
        *FLAGS,
        theme,
        f"--user-data-dir={folder / 'profile'}",
        "--dump-dom",
        file.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = re.search(r'<pre id="looks">(.*?)</pre>', done.stdout)
    assert found, done.stdout[-500:]
    looks: list[Look] = json.loads(unescape(found[1]))
    return looks


@pytest.fixture
def status(tmp_path: Path) -> str:
    found, registry = samples.filled(tmp_path, HOSTILE)
    html = status_page(found, registry, tmp_path)
    registry.close()
    return html


def test_pages_fit_every_width_and_run_and_fetch_nothing(tmp_path: Path, status: str) -> None:
    report, hostile = render(samples.report()), render(samples.hostile(HOSTILE))
    traced = trace_page(samples.trace(HOSTILE))
    alert = samples.alert(HOSTILE)
    alerts = (alert_page(alert, [], alert.at, token="0" * 64), alerts_page([alert], alert.at))
    pages = [
        (html, width) for html in (report, hostile, status, traced, *alerts) for width in (360, 768, 1280)
    ]
    looks = look(tmp_path, pages)
    assert [one["width"] for one in looks] == [width for _, width in pages]
    assert [one["needs"] for one in looks] == [width for _, width in pages]
    assert [(one["ran"], one["fetched"], one["scripts"]) for one in looks] == [(None, 0, 0)] * len(pages)


def test_pages_and_their_charts_follow_the_reader_s_theme(tmp_path: Path, status: str) -> None:
    pages = [(page, 1000) for page in (render(samples.report()), status, trace_page(samples.trace()))]
    light, dark = look(tmp_path, pages), look(tmp_path, pages, dark=True)
    assert {one["paper"] for one in light} == {"rgb(255, 255, 255)"}
    assert {one["paper"] for one in dark} == {"rgb(20, 24, 29)"}
    assert (light[0]["letters"], dark[0]["letters"]) == ("rgb(87, 96, 106)", "rgb(163, 173, 184)")
