"""Alert rules for Prometheus and a dashboard for Grafana, of the metrics that `/metrics` has."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

FILES = ("icekeel-rules.yml", "icekeel-dashboard.json")


def write_files(folder: Path) -> list[Path]:
    """Write both into a folder, which is made where there is none; what is there under these names is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in FILES:
        path = folder / name
        path.write_bytes(files("icekeel.operations").joinpath("prometheus_files", name).read_bytes())
        written.append(path)
    return written
