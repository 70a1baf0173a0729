"""Training sets with a known truth: sixty days whose rows go well or badly together, and what may be planted in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

import icekeel as ik
from icekeel.core.frames import Array, Floats, Frame, Ints
from icekeel.core.time import DAY, HOUR
from icekeel.features.events import EventStore
from icekeel.features.outcomes import Outcomes, Status
from icekeel.features.plan import make_plan
from icekeel.training import Problem
from icekeel.training.audits import AuditInput
from icekeel.training.dataset import Learnable
from icekeel.training.pipeline import rows_with_outcome


class Parcel(ik.Request):
    parcel: ik.Id
    owner: ik.Cat = ik.private()
    route: ik.Cat
    service: ik.Cat
    size: ik.Num
    load: ik.Num = ik.optional()
    extra: ik.Num = ik.optional()
    code: ik.Cat = ik.optional()


class Ends(ik.Events, time="ended_at", id="parcel"):
    parcel: ik.Id
    late: ik.Flag
    minutes: ik.Num


class Features(ik.Features):
    route = Parcel.route
    service = Parcel.service
    size = Parcel.size
    load = Parcel.load
    extra = Parcel.extra
    code = Parcel.code


ROUTES = np.array(["a", "b", "c", "d", "e"], dtype=object)
EFFECTS = np.array([-0.8, 0.0, 0.3, 0.6, 1.0])
END = Ends.where(parcel=Parcel.parcel).within("2d")


def model(error: str = "log_loss", audits: ik.Audits | None = None) -> ik.Model:
    late = END.late.latest(absent=ik.UNKNOWN)
    return ik.Model(
        "late",
        Parcel,
        Features,
        history=ik.table_of(Parcel, "parcels.csv", asked_at="asked_at"),
        target=late if error == "log_loss" else END.minutes.latest(absent=ik.UNKNOWN),
        error=error,
        choose=ik.Simplest(within=ik.usd_per_year(1_000, error_point=10_000)),
        audits=audits,
    )


@dataclass
class World:
    """Rows before anything looks at them; tests change them.

    Attributes:
        said: What a model says that knows the truth.
        known: Whether the outcome is known.
    """

    asked_at: Ints
    columns: dict[str, Array]
    target: Floats
    said: Floats
    known: Array

    @property
    def day(self) -> Ints:
        return self.asked_at // DAY

    def take(self, rows: Array) -> World:
        columns = {name: values[rows] for name, values in self.columns.items()}
        return World(self.asked_at[rows], columns, self.target[rows], self.said[rows], self.known[rows])


def world(seed: int, n: int = 6_000, days: int = 60, error: str = "log_loss") -> World:
    """Load and lateness have good and bad days, sizes do not; the last two days have no outcome yet."""
    rng = np.random.default_rng([11, seed])
    asked_at = np.sort(rng.integers(0, days * DAY, n))
    day = asked_at // DAY
    of_day = rng.normal(0, 0.7, days)[day]
    size, load = rng.gamma(2.0, size=n), rng.normal(0, 1, n) + of_day
    place = rng.integers(len(ROUTES), size=n)
    score = 0.5 * (size - 2) + EFFECTS[place] + 0.3 * load - 0.7
    said = 1 / (1 + np.exp(-score)) if error == "log_loss" else 20 + 5 * score
    # The model does not know how a day went: all its rows are wrong together.
    surprise = rng.normal(0, 0.3, days)[day]
    if error == "log_loss":
        target = (rng.random(n) < 1 / (1 + np.exp(-score - surprise))).astype(float)
    else:
        target = said + 2 * surprise + rng.normal(0, 2, n)
    columns = {
        "parcel": np.array([f"p{at}" for at in range(n)], dtype=object),
        "owner": np.array([f"o{at % 50}" for at in range(n)], dtype=object),
        "route": ROUTES[place],
        "service": rng.choice(np.array(["express", "plain", None], dtype=object), n),
        "size": size,
        "load": np.where(rng.random(n) < 0.1, np.nan, load),
        "extra": rng.normal(size=n),
        "code": rng.choice(np.array(["x", "y", "z"], dtype=object), n),
    }
    return World(asked_at, columns, target, said, day < days - 2)


def given(
    simulated: World,
    error: str = "log_loss",
    *,
    audits: ik.Audits | None = None,
    tested: float = 0.5,
    store: Callable[[int], EventStore] = lambda delay: EventStore({}, {}),
    seed: int = 0,
) -> AuditInput:
    """The rows as an audit gets them, the latest `tested` share of them predicted."""
    definition = model(error, audits)
    features = Features.icekeel_features
    plan = make_plan(tuple(Parcel.icekeel_fields.values()), features)
    requests = Frame(simulated.columns)
    status = np.where(simulated.known, int(Status.KNOWN), int(Status.PENDING))
    outcomes = Outcomes(simulated.target, simulated.target, status, simulated.asked_at + HOUR)
    names = [feature.name for feature in features]
    never = np.zeros(len(requests), dtype=np.bool_)
    asked = Learnable(
        requests, simulated.asked_at, requests.select(names), outcomes, never, 0, never.astype(np.int64)
    )
    known, rows = rows_with_outcome(features, asked)
    said = simulated.said[known].copy()
    said[: int(len(said) * (1 - tested))] = np.nan
    return AuditInput(
        model=definition,
        problem=Problem(definition.task, error),  # type: ignore[arg-type]
        plan=plan,
        asked=asked,
        known=known,
        rows=rows,
        predictions=said,
        open_store=store,
        now=int(simulated.asked_at[-1]) + 1,
        rng=np.random.default_rng(seed),
    )


def planted(simulated: World, columns: Mapping[str, Array]) -> World:
    """The same rows with columns replaced."""
    return replace(simulated, columns={**simulated.columns, **columns})
