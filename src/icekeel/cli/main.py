"""The command `icekeel`: every command in the order in which a project meets them.

Exit status: 0 done; 1 an error of Icekeel's own, every fault on stderr; 2 a command that cannot be
understood; 130 Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence

import typer

from icekeel.core.errors import Fault, IcekeelError, SettingsError

from .alerts import alerts
from .answers import answers, explain, ready, trace
from .backups import backup, doctor, restore
from .contracts import contract
from .experiments import EXPERIMENTS
from .experiments import list_ as list_experiments
from .features import features, try_, worth
from .forgetting import forget
from .guards import guard, review
from .labels import labels
from .monitoring import monitor, runs
from .options import HERE, AsJson, ProjectFolder
from .output import fail
from .projects import check, config, init, plan, token
from .quarantine import quarantine
from .registry import MODELS, list_
from .rehearsing import rehearse
from .running import demo, keep, serve, up
from .snapshots import snapshots
from .tables import dataset, freshness, ingest
from .upkeep import audit, compact, rebuild
from .versions import decisions, promote, rollback, train

cli = typer.Typer(
    help="A small team's whole production machine-learning system.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
COMMANDS: tuple[Callable[..., None], ...] = (
    *(
        init,
        check,
        plan,
        contract,
        ingest,
        quarantine,
        freshness,
        monitor,
        snapshots,
        dataset,
        train,
        worth,
        features,
        try_,
        up,
    ),
    *(
        promote,
        rollback,
        decisions,
        alerts,
        guard,
        review,
        labels,
        answers,
        explain,
        ready,
        trace,
        audit,
        compact,
    ),
    *(runs, rebuild, forget, backup, restore, doctor),
    *(token, config, serve, keep, demo, rehearse),
)
for command in COMMANDS:
    cli.command(command.__name__.rstrip("_"))(command)  # `try` is a word of Python


def add_group(
    name: str, help_: str, commands: Sequence[Callable[..., None]], first: Callable[..., None]
) -> None:
    """Commands under one word; `first`, a list of all, where nothing else is said."""
    group = typer.Typer(help=help_, rich_markup_mode=None)
    for command in commands:
        group.command(command.__name__.rstrip("_"))(command)
    cli.add_typer(group, name=name)

    @group.callback(invoke_without_command=True)
    def listed(context: typer.Context, project: ProjectFolder = HERE, as_json: AsJson = False) -> None:
        if context.invoked_subcommand is None:
            first(None, project, as_json)
        elif project != HERE or as_json:
            hint = f"icekeel {name} {context.invoked_subcommand} ... --project FOLDER"
            fault = Fault("misplaced_option", "options come after the command", f"icekeel {name}", hint=hint)
            raise SettingsError(fault)


add_group("models", "Versions: what there is, what serves, what each was made from.", MODELS, list_)
add_group(
    "experiment",
    "Experiments: what is tested, what a test would need, its report.",
    EXPERIMENTS,
    list_experiments,
)


def main() -> None:
    """Run the command line; errors of Icekeel's own are printed, not traced."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if limit_s := os.environ.pop("ICEKEEL_LIMIT_S", ""):  # the keeper's children end by themselves
        signal.alarm(int(limit_s))
    try:
        cli()
    except IcekeelError as error:
        fail(error, as_json="--json" in sys.argv)
    except RuntimeError as error:
        if str(error) != "Query interrupted":  # which is how DuckDB passes on Ctrl-C
            raise
        raise SystemExit(130) from None
