"""The command `icekeel`: every command in the order in which a project meets them.

Exit status: 0 done; 1 an error of Icekeel's own, every fault on stderr; 2 a command that cannot be
understood; 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import typer

from icekeel.core.errors import IcekeelError

from .answers import answers, explain, ready, trace
from .contracts import contract
from .datasets import dataset
from .events import ingest
from .features import features, try_
from .forgetting import forget
from .guards import guard
from .output import fail
from .projects import check, config, init, plan, token
from .quarantine import quarantine
from .reviews import review
from .running import demo, keep, serve, up
from .snapshots import snapshots
from .upkeep import audit, compact, rebuild
from .versions import alerts, decisions, models, promote, rollback, train

cli = typer.Typer(
    help="A small team's whole production machine-learning system.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
COMMANDS: tuple[Callable[..., None], ...] = (
    *(init, check, plan, contract, ingest, quarantine, snapshots, dataset, train, features, try_, models, up),
    *(promote, rollback, decisions, alerts, guard, review, answers, explain, ready, trace, audit, compact),
    *(rebuild, forget),
    *(token, config, serve, keep, demo),
)
for command in COMMANDS:
    cli.command(command.__name__.rstrip("_"))(command)  # `try` is a word of Python


def main() -> None:
    """Run the command line; errors of Icekeel's own are printed, not traced."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        cli()
    except IcekeelError as error:
        fail(error, as_json="--json" in sys.argv)
    except RuntimeError as error:
        if str(error) != "Query interrupted":  # which is how DuckDB passes on Ctrl-C
            raise
        raise SystemExit(130) from None
