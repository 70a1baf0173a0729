"""Where the command begins: loading what it needs takes some tenths of a second, in which Ctrl-C is Ctrl-C too."""

from __future__ import annotations


def main() -> None:
    """Run the command line; exit status 130 on Ctrl-C."""
    try:
        from .main import main as run  # here, since Ctrl-C is to be caught while it loads

        run()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
