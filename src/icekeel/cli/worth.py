"""The command that says what the next rung of the ladder earns and costs, and what features earn beside it."""

from __future__ import annotations

from typing import Any

from icekeel.core.errors import Fault, StateError
from icekeel.core.time import SECOND, format_time

from .options import HERE, AsJson, ProjectFolder, open_app
from .output import print_json, print_table, print_text
from .versions import ModelName, registry_of


def worth(model: ModelName, project: ProjectFolder = HERE, as_json: AsJson = False) -> None:
    """Say what each rung of the latest ladder earns and costs in a year, and what features earn beside it."""
    with registry_of(open_app(project), model) as registry:
        climbed = [version for version in registry.versions(model) if version.metrics.get("worth")]
    if not climbed:
        what, hint = "the whole ladder was never climbed", f"icekeel train {model}"
        raise StateError(Fault("no_ladder", what, model, hint=hint))
    version = climbed[-1]
    found: dict[str, Any] = version.metrics["worth"]
    at, steps = format_time(version.at // SECOND * SECOND), version.ladder["steps"]
    if as_json:
        print_json({"model": model, "version": version.name, "at": at, "ladder": steps, **found})
        return
    print_text(
        f"{version.name}, {at}: {found['winner']} was chosen. Reckoned with {found['answers_per_year']:,.0f} answers and "
        f"{found['retrains_per_year']:g} retrains a year, ${found['error_point']:,.0f} for 0.01 of error, "
        f"${found['core_hour']:g} for a core hour."
    )
    print_table(
        ["rung", "over", "earns a year", "95 % interval", "machine", "kB", "in upkeep", "stopped"],
        [_row(one, steps) for one in found["rungs"]],
    )
    following, features, stack = found["next"], found["features"], found["stack"]
    if following is not None:
        print_text(f"The next rung: {following['told']}.")
    if features is not None:
        print_table(
            ["the same algorithm", "raw features", "engineered"],
            [
                [name, _short(pair["raw"]), _short(pair["engineered"])]
                for name, pair in features["errors"].items()
            ],
        )
        print_text(f"Features and algorithms: {features['told']}.")
    if stack is not None:
        print_text(f"Beyond: {stack['told']}.")


def _row(one: dict[str, Any], steps: list[dict[str, Any]]) -> list[object]:
    from icekeel.training.worth import dollars

    costs = one["costs"]
    stopped = next(step["stopped"] for step in steps if step["rung"] == one["rung"])
    return [
        one["rung"],
        one["over"],
        dollars(one["earns"]),
        f"{dollars(one['low'])} to {dollars(one['high'])}",
        dollars(costs["training"] + costs["serving"]),
        f"{costs['bytes'] / 1000:+,.0f}",
        costs["upkeep"],
        stopped or "-",
    ]


def _short(value: float) -> str:
    return f"{value:.4g}"
