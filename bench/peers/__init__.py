"""Peers: other tools beside ours, each in an environment of its own, made once and kept in a folder that git ignores."""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent / ".peers"


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment, with what `<name>.txt` pins; made unless it is there."""
    pinned = HERE / f"{name}.txt"
    folder = ENVIRONMENTS / f"{name}-{sha256(pinned.read_bytes()).hexdigest()[:12]}"
    python, made = folder / "bin" / "python", folder / ".installed"
    if not made.exists():
        print(f"installing {name} into {folder}, some minutes", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        subprocess.run([*install, "--requirement", str(pinned)], check=True, stderr=subprocess.DEVNULL)
        made.touch()
    return python
