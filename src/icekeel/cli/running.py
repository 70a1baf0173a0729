"""Commands that keep running: the server, the keeper, both together; and the demonstrations."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from icekeel.core.errors import Fault, StateError
from icekeel.core.files import alone
from icekeel.core.time import format_second, parse_time, wall_clock
from icekeel.settings import NEVER, load_settings

from .options import HERE, AsJson, ProjectFolder, Shift, open_app
from .output import log_as_json, print_line, say

Port = Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Serving processes on that port.")]
DEMOS = Path("icekeel-demo")


def serve(
    project: ProjectFolder = HERE,
    port: Port = None,
    workers: Workers = None,
    rehearsal: Annotated[bool, typer.Option(help="Callers set the clock: only to replay history.")] = False,
    shift: Shift = 0,
    worker: Annotated[str, typer.Option(hidden=True, help="Run as this one of several workers.")] = "",
) -> None:
    """Answer requests over HTTP; the keeper must run beside it (`icekeel up` starts both)."""
    from . import processes

    flags = {"port": port, "workers": workers, "rehearsal": rehearsal or None}
    settings = load_settings(project.resolve(), flags)
    log_as_json()
    if settings.workers > 1 and not worker:
        processes.run_together(project, settings, shift=shift, keeper=False, as_json=True)
        return
    if worker:
        processes.end_with_parent()
    listening = processes.listening_socket(settings.host, settings.port, shared=bool(worker))
    # Loaded where it is used: a process that only watches over workers does not need it.
    from icekeel.app import App
    from icekeel.http import serve as run

    app = App(project.resolve(), settings, clock=lambda: wall_clock() + shift)
    run(app, worker=worker, listening=listening, ready=lambda port: print_line({"listening": port}))


def keep(
    project: ProjectFolder = HERE,
    rehearsal: Annotated[bool, typer.Option(help="Take the time from the journal.")] = False,
    shift: Shift = 0,
    child: Annotated[bool, typer.Option(hidden=True, help="End with the process that started it.")] = False,
) -> None:
    """Make the projections of the journal and run the schedule."""
    # Rows that are taken in are known from the machine's time on, which is not that of a shifted clock.
    still = dict.fromkeys(("ingest_every", "audit_every", "backup_every"), NEVER if shift else None)
    app = open_app(project, shift=shift, rehearsal=rehearsal or None, **still)
    log_as_json()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if child:
        from .processes import end_with_parent

        end_with_parent()
    with only_keeper(app.places.state), app.journal("keep") as journal:
        registry = app.registry()
        app.keep(registry, journal, stop, ready=lambda: print_line({"keeping": str(app.places.state)}))


def up(
    system: Annotated[str, typer.Argument(help="A demo's name; nothing for the project here.")] = "",
    project: ProjectFolder = HERE,
    port: Port = None,
    workers: Workers = None,
    now: Annotated[str, typer.Option(help="Start the clock here, as 2013-10-01; it then runs on.")] = "",
    as_json: AsJson = False,
) -> None:
    """Start the server and the keeper, and stop both together.

    A demo's clock goes on from where its data end, so that its windows hold something.
    """
    folder = DEMOS / system if system else project
    if system and not (folder / "project.py").is_file():
        hint = f"icekeel demo {system}"
        raise StateError(Fault("no_demo", f'the demo "{system}" has not run here', str(folder), hint=hint))
    from . import processes

    shift = _shift(folder, now, follow=bool(system))
    if shift:
        say(f"the clock starts at {format_second(wall_clock() + shift)}")
    settings = load_settings(folder.resolve(), {"port": port, "workers": workers})
    processes.run_together(folder, settings, shift=shift, keeper=True, as_json=as_json)


def demo(
    system: Annotated[str, typer.Argument(help="flights or quotes")] = "flights",
    folder: Annotated[Path | None, typer.Option(help="Where to work (default: icekeel-demo/SYSTEM).")] = None,
    fresh: Annotated[bool, typer.Option(help="Forget an earlier run.")] = False,
) -> None:
    """Run a whole system on real or simulated history, and write its report."""
    from .worlds import run_demo

    run_demo(system, folder, fresh=fresh, say=say)


def _shift(folder: Path, now: str, *, follow: bool) -> int:
    """Microseconds between the machine's time and the time asked for, or the end of the data."""
    if now:
        return parse_time(now) - wall_clock()
    if not follow:
        return 0
    from icekeel.features.live import StateCell

    with open_app(folder).online(readonly=True) as online:
        cell = StateCell(online)
        with online.begin() as txn:
            state = cell.read(txn)
    end = max(state.now, state.known_until)
    return end - wall_clock() if end else 0


@contextmanager
def only_keeper(state: Path) -> Iterator[None]:
    """Two keepers would project everything twice; the lock ends with the process, however it ends."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    with alone(state / "keep.lock") as mine:
        if not mine:
            raise StateError(
                Fault("keeper_runs", "a keeper runs here already", str(state), hint="stop it first")
            )
        yield
