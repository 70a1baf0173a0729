"""The command `icekeel`: every command in the order in which a project meets them.

Exit status: 0 done; 1 an error of Icekeel's own, every fault on stderr; 2 a command that cannot be
understood; 130 Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

import typer

from icekeel.core.errors import Fault, IcekeelError, SettingsError

from .alerts import alerts
from .answers import answers, explain, ready, trace
from .backups import backup, doctor, restore
from .contracts import contract
from .datasets import dataset
from .events import ingest
from .experiments import EXPERIMENTS
from .experiments import list_ as list_experiments
from .features import features, try_
from .forgetting import forget
from .freshness import freshness
from .guards import guard
from .labels import labels
from .monitoring import monitor
from .options import HERE, AsJson, ProjectFolder
from .output import fail
from .projects import check, config, init, plan, token
from .quarantine import quarantine
from .registry import MODELS, list_
from .rehearsing import rehearse
from .reviews import review
from .running import demo, keep, serve, up
from .runs import runs
from .snapshots import snapshots
from .upkeep import audit, compact, rebuild
from .versions import decisions, promote, rollback, train
from .worth import worth

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
models = typer.Typer(
    help="Versions: what there is, what serves, what each was made from.", rich_markup_mode=None
)
for command in MODELS:
    models.command(command.__name__.rstrip("_"))(command)
cli.add_typer(models, name="models")


@models.callback(invoke_without_command=True)
def versions(context: typer.Context, project: ProjectFolder = HERE, as_json: AsJson = False) -> None:
    """Versions: what there is, what serves, what each was made from; `list` where nothing else is said."""
    if context.invoked_subcommand is None:
        list_(None, project, as_json)
    elif project != HERE or as_json:
        what, hint = (
            "options come after the command",
            f"icekeel models {context.invoked_subcommand} ... --project FOLDER",
        )
        raise SettingsError(Fault("misplaced_option", what, "icekeel models", hint=hint))


trials = typer.Typer(
    help="Experiments: what is tested, what a test would need, its report.", rich_markup_mode=None
)
for command in EXPERIMENTS:
    trials.command(command.__name__.rstrip("_"))(command)
cli.add_typer(trials, name="experiment")


@trials.callback(invoke_without_command=True)
def experiments(context: typer.Context, project: ProjectFolder = HERE, as_json: AsJson = False) -> None:
    """Experiments: what is tested, what a test would need, its report; `list` where nothing else is said."""
    if context.invoked_subcommand is None:
        list_experiments(None, project, as_json)


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
