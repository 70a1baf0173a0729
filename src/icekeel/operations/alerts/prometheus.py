"""Alert rules for Prometheus and a dashboard for Grafana, of the metrics that `/metrics` has."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from icekeel.core.errors import Fault, SettingsError

FILES = ("icekeel-rules.yml", "icekeel-dashboard.json")


def write_files(folder: Path) -> list[Path]:
    """Write both into a folder, which is made where there is none; what is there under these names is replaced.

    Raises:
        SettingsError: `not_written`.
    """
    paths = [folder / name for name in FILES]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            path.write_bytes(files(__package__).joinpath("prometheus_files", path.name).read_bytes())
    except OSError as error:
        what = "the files cannot be written there"
        raise SettingsError(Fault("not_written", what, str(folder), error.strerror or str(error))) from error
    return paths
