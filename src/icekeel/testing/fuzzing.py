"""The same worlds through every engine: the oracle, files with DuckDB and the kernel, LMDB with the closures, `given`.

A *value* is one feature of one question. Counts, extremes, ends, ranks and everything at row level must be
identical; of windows that add up, `tolerance` says how far the answers may lie apart.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import duckdb
import numpy as np

import icekeel as ik
from icekeel.core.frames import NO_TIME, Array, Frame
from icekeel.core.kinds import Column, Kind
from icekeel.core.time import DAY, FOREVER, format_time, parse_time
from icekeel.data.history import AVAILABLE, DELETED, SEQUENCE, History, Manifest, StoredFile
from icekeel.data.merging import merge
from icekeel.data.relations import create_table
from icekeel.define.expressions import expression
from icekeel.define.features import Feature
from icekeel.define.nodes import Call, EventField, Literal, Node, Op, RequestField, Windowed, walk
from icekeel.features.aggregates import Function
from icekeel.features.events import EventStore
from icekeel.features.live import EventFeed, LiveFeatures, all_views
from icekeel.features.offline import historical_features
from icekeel.features.online import LmdbWindows, TextCodes, chunks, open_environment
from icekeel.features.plan import make_plan
from icekeel.training.cache import FeatureCache

from .definitions import Oracle, Value
from .grammar import Definitions
from .worlds import FIELDS, TABLES, TURNS, Events, Places, Question, Row, Sort, Things

SORTS = {
    "exact": Sort(exact=True),
    "rounded": Sort(),
    "edges": Sort(rows=0, questions=100, features=100, edges=True),
    "hot": Sort(rows=3000, questions=30, exact=True, hot=0.95),
}


@dataclass(frozen=True, slots=True)
class World:
    """What an engine is given.

    Attributes:
        rows: Versions of each table, in the order in which they come.
        features: Definitions.
        questions: In the order of their time.
    """

    rows: dict[str, list[Row]]
    features: tuple[Feature, ...]
    questions: list[Question]


def draw(seed: int, sort: Sort) -> World:
    """The world of a seed: three days about a moment at which the clocks of its zone turn."""
    rng = Random(seed)
    zone, turn = rng.choice([(zone, turn) for zone, turns in TURNS.items() for turn in turns])
    events = Events(rng, sort, parse_time(turn))
    rows = {"Things": events.things(), "Places": events.places()} if sort.rows else {}
    definitions = Definitions(rng, zone, windows=bool(sort.rows), exact=sort.exact)
    many = sort.features if rng.random() < 0.85 else 5  # few leave out what only others need
    features = tuple(definitions.feature(f"f{at}") for at in range(many))
    return World(rows, features, events.questions(rows.get("Things", [])))


Answers = dict[int, list[Value]]
"""By the place of a question: one value per feature. An engine may answer some of the questions only."""
Engine = Callable[[World, Random], Answers]


def by_oracle(world: World) -> Answers:
    """As the definitions read."""
    oracle = Oracle(TABLES, world.rows)
    nodes = [feature.node for feature in world.features]
    return {
        at: [oracle.value(node, asked.request, asked.at) for node in nodes]
        for at, asked in enumerate(world.questions)
    }


def by_files(world: World, rng: Random) -> Answers:
    """Through Parquet files as `History` keeps them, rows in any order, and DuckDB with the kernel, maybe in parts.

    Maybe windows of some of the features, from some of the files, for some of the questions were kept before.
    """
    order = rng.sample(range(len(world.questions)), len(world.questions))
    asked = [world.questions[at] for at in order]
    requests = frame_of([one.request for one in asked], [Column(field.name, field.kind) for field in FIELDS])
    times = np.array([one.at for one in asked], dtype=np.int64)
    known = rng.choice((FOREVER, max((one.at for one in asked), default=0)))
    part_bytes = rng.choice((1 << 30, 1 + 30 * sum(map(len, world.rows.values()))))
    with TemporaryDirectory() as folder:
        kept = _keep(Path(folder), world, rng)

        def features(chosen: Sequence[Feature], files: Manifest, some: Array) -> Frame:
            paths = {name: kept.paths(files, name) for name in world.rows}
            store = EventStore(TABLES, paths, threads=1, part_bytes=part_bytes)
            store.forget_after(known)
            plan = make_plan(FIELDS, chosen)
            if rng.random() < 0.3:
                found = historical_features(plan, requests.take(some), times[some], store)
            else:
                place = kept.folder / "kept"
                cache = FeatureCache(place, plan, TABLES, files, requests.take(some), times[some])
                found = cache.features(store)
            store.close()
            return found

        whole, every = kept.manifest(), np.arange(len(asked))
        if rng.random() < 0.5:
            few = Manifest({name: files[:1] for name, files in whole.tables.items()})
            features(rng.sample(world.features, len(world.features) // 2), few, every[::2])
            features(rng.sample(world.features, len(world.features) // 2), few, every)
        found = features(world.features, whole, every)
    listed = [[None if v != v else v for v in found[feature.name].tolist()] for feature in world.features]  # noqa: PLR0124
    return {at: list(line) for at, line in zip(order, zip(*listed, strict=True), strict=True)}


def _keep(folder: Path, world: World, rng: Random) -> History:
    """Rows in some files; of each its place in the order of arrival is kept."""
    kept = History(folder)
    with duckdb.connect(config={"threads": 1}) as connection, kept.adding() as manifest:
        added: dict[str, list[StoredFile]] = {}
        for name, rows in world.rows.items():
            columns = [Column(field.name, field.kind) for field in TABLES[name].fields.values()]
            columns += [Column(AVAILABLE, Kind.TIME), Column(DELETED, Kind.FLAG), Column(SEQUENCE, Kind.TIME)]
            numbered = [{**row, SEQUENCE: place} for place, row in enumerate(rows)]
            if rng.random() < 0.5:
                rng.shuffle(numbered)
            size = -(-len(rows) // rng.choice((1, 2, 5))) or 1
            for begin in range(0, len(rows), size):
                some = numbered[begin : begin + size]
                create_table(connection, "part", columns, frame_of(some, columns))
                draft = folder / "draft"
                connection.execute(f"COPY (SELECT * EXCLUDE (_row) FROM part) TO '{draft}' (FORMAT parquet)")
                known_from = min(row[AVAILABLE] for row in some)
                added.setdefault(name, []).append(kept.adopt(name, draft, len(some), known_from=known_from))
        kept.replace(manifest, added)
    if rng.random() < 0.5:
        merge(kept, rng.choice((2, 3)))
    return kept


def frame_of(rows: Sequence[Row], columns: Sequence[Column]) -> Frame:
    """Rows of Python values as arrays."""

    def array(column: Column) -> Array:
        values = [row[column.name] for row in rows]
        if column.kind is Kind.TIME:
            return np.array([NO_TIME if value is None else value for value in values], dtype=np.int64)
        return np.array(values, dtype=object if column.kind.is_text else np.float64)

    return Frame({column.name: array(column) for column in columns})


def by_store(world: World, rng: Random) -> Answers:
    """Through the keeper's feed into LMDB, in batches, and one question at a time through the closures.

    Asked are the questions for which the store promises exact answers.
    """
    plan = make_plan(FIELDS, world.features)
    lookups = all_views([plan])
    views = [lookup.view for lookup in lookups]
    newest = max((row[AVAILABLE] for rows in world.rows.values() for row in rows), default=-FOREVER)
    with TemporaryDirectory() as folder, _chunk_sizes(*rng.choice(((8, 300), (30, 100), (512, 1536)))):
        environment = open_environment(Path(folder), map_size=1 << 28)
        codes, windows = TextCodes(environment), LmdbWindows(environment, views)
        feed = EventFeed(TABLES, lookups, codes)
        for name, batch in _batches(world, rng):
            if not feed.reads(name):
                continue
            for begun_in_vain in (True, False) if rng.random() < 0.1 else (False,):
                with environment.begin(write=True) as txn:
                    windows.apply(txn, name, feed.versions(txn, name, batch, 0))
                    if begun_in_vain:
                        txn.abort()
                    elif rng.random() < 0.1:
                        windows.prune(txn, max(row[AVAILABLE] for row in batch))
        live = LiveFeatures(environment, plan, views)
        answers = {
            at: live.read([asked.request[field.name] for field in FIELDS], asked.at).values
            for at, asked in enumerate(world.questions)
            if asked.at > newest - DAY
        }
        environment.close()
    return answers


def _batches(world: World, rng: Random) -> Iterator[tuple[str, list[Row]]]:
    """The rows of each table in the order they came, some sent twice at once; tables take turns."""
    size = rng.choice((1, 7, 60, 1000)) if sum(map(len, world.rows.values())) < 1000 else 700
    for begin in range(0, max(map(len, world.rows.values()), default=0), size):
        for name in world.rows:
            batch = world.rows[name][begin : begin + size]
            if batch:
                yield name, batch
                if rng.random() < 0.2:
                    yield name, batch[-1:]


@contextmanager
def _chunk_sizes(rows: int, tail_bytes: int) -> Iterator[None]:
    """Chunks of the store so small that a few rows fill several."""
    before = chunks.ROWS, chunks.TAIL_BYTES
    chunks.ROWS, chunks.TAIL_BYTES = rows, tail_bytes
    try:
        yield
    finally:
        chunks.ROWS, chunks.TAIL_BYTES = before


def by_given(world: World, rng: Random) -> Answers:
    """Through `ik.given`, which tests of users' features call; a few questions, since it is not made for many."""
    owners: dict[str, type[ik.Events]] = {"Things": Things, "Places": Places}
    events = [
        ik.deleted(owners[name], row[TABLES[name].id], at=row[AVAILABLE])
        if row[DELETED]
        else owners[name](**{column: row[column] for column in TABLES[name].fields})
        for name, rows in world.rows.items()
        for row in rows
    ]
    known = ik.given(*events)

    def ask(asked: Question, node: Node) -> Value:
        used = {below.name for below in walk(node) if isinstance(below, RequestField)}
        value: Value = known.at(asked.at)[expression(node)](**{name: asked.request[name] for name in used})
        return value

    chosen = rng.sample(range(len(world.questions)), min(6, len(world.questions)))
    return {at: [ask(world.questions[at], f.node) for f in world.features] for at in chosen}


ENGINES: dict[str, Engine] = {"files": by_files, "store": by_store, "given": by_given}


@dataclass(frozen=True, slots=True)
class Mismatch:
    """An answer of an engine that is not the oracle's, in the smallest world found that shows it."""

    engine: str
    world: World
    feature: Feature
    asked: Question
    got: Value
    wanted: Value

    def __str__(self) -> str:
        rows = [f"    {name} {row}" for name, rows in self.world.rows.items() for row in rows]
        others = len(self.world.features) - 1, len(self.world.questions) - 1
        return "\n".join(
            [
                f"{self.engine} says {self.got!r}, the oracle {self.wanted!r}",
                f"  feature {written(self.feature.node)}",
                f"  asked at {self.asked.at} ({format_time(self.asked.at)}) {self.asked.request}",
                f"  beside {others[0]} other features and {others[1]} other questions",
                f"  rows, in the order they came: {len(rows)}",
                *rows,
            ]
        )


def check(seed: int, sort: str) -> tuple[Counter[str], list[Mismatch]]:
    """How many values of the world of a seed each engine was held to, and where each first differs."""
    world = draw(seed, SORTS[sort])
    wanted = by_oracle(world)
    compared: Counter[str] = Counter()
    found: list[Mismatch] = []
    for name, engine in ENGINES.items():
        got = engine(world, Random(seed))
        compared[name] = len(got) * len(world.features)
        if place := next(differences(world, got, wanted), None):
            found.append(smallest(world, name, seed, *place))
    return compared, found


def differences(world: World, got: Answers, wanted: Answers) -> Iterator[tuple[int, int]]:
    """The (question, feature) pairs whose answers differ by more than they may."""
    oracle = Oracle(TABLES, world.rows)
    for at, line in got.items():
        for place, (feature, a, b) in enumerate(zip(world.features, line, wanted[at], strict=True)):
            if type(a) is not type(b) or a != b:
                allowed = tolerance(oracle, feature.node, world.questions[at])
                if not _within(a, b, allowed):
                    yield at, place


def _within(got: Value, wanted: Value, allowed: float) -> bool:
    finite = type(got) is float and math.isfinite(got)
    if type(wanted) is float and finite:
        return bool(abs(got - wanted) <= allowed)
    return allowed == math.inf and (got is None or finite)


_ADDING = (Function.SUM, Function.MEAN, Function.STD, Function.LAST_MEAN)


def tolerance(oracle: Oracle, node: Node, asked: Question) -> float:
    """How far a window that stands alone may be off: a sum `1e-12 * sum(|x|)`, means and std accordingly.

    Nothing where the values have so few binary digits that every order of adding gives the same; a standard
    deviation is never like that. Anything finite, or null, where no number bounds the sums.
    """
    window = node.args[0] if isinstance(node, Call) and node.op is Op.FILL else node
    if not isinstance(window, Windowed) or window.function not in _ADDING:
        return 0.0
    sizes: list[float] = [abs(value) for value in oracle.values(window, asked.request, asked.at)]
    if max(sizes, default=0.0) > 1e153:
        return math.inf  # sums or squares may be beyond all numbers
    if window.function == Function.STD:
        return 1e-12 * max(sizes)
    if all(size * 16 == int(size * 16) < 2**40 for size in sizes):
        return 0.0
    sizes = sizes[-window.k :] if window.k else sizes
    return 1e-12 * math.fsum(sizes) / (1 if window.function == Function.SUM else len(sizes))


def smallest(world: World, engine: str, seed: int, at: int, place: int) -> Mismatch:
    """A mismatch with as few rows as still show it, alone or beside what else was asked where it needs that."""
    feature, asked = world.features[place], world.questions[at]

    def shown(tried: World) -> Mismatch | None:
        nth, mine = tried.questions.index(asked), tried.features.index(feature)
        got, wanted = ENGINES[engine](tried, Random(seed)), by_oracle(tried)
        if (nth, mine) not in differences(tried, got, wanted):
            return None
        return Mismatch(engine, tried, feature, asked, got[nth][mine], wanted[nth][mine])

    one = replace(world, questions=[asked])
    kept = shown(replace(one, features=(feature,))) or shown(one) or shown(world)
    if kept is None:
        raise RuntimeError(f"{engine} answered otherwise when it was asked again")
    tries = 300 if len(kept.world.features) == 1 else 30
    for name in world.rows:
        step = -(-len(world.rows[name]) // 2)
        while step:
            for begin in reversed(range(0, len(kept.world.rows[name]), step)):
                rows, tries = kept.world.rows[name], tries - 1
                fewer = {**kept.world.rows, name: rows[:begin] + rows[begin + step :]}
                kept = (tries > 0 and shown(replace(kept.world, rows=fewer))) or kept
            step = step // 2
    return kept


def written(node: Node) -> str:
    """A definition, short enough to read."""
    match node:
        case Literal(value=value):
            return repr(value)
        case RequestField(name=name) | EventField(name=name):
            return name
        case Call():
            listed = [*map(written, node.args), *map(repr, node.params[:2])]
            return f"{node.op}({', '.join(listed)})"
        case Windowed():
            keys = ", ".join(f"{column}={asked.name}" for column, asked in node.keyed.keys)
            where = f" where {written(node.keyed.where)}" if node.keyed.where else ""
            value = written(node.value) if node.value else ""
            of = f" of {written(node.of)}" if node.of else ""
            window = f"{node.keyed.table}({keys}){where} ages {node.low}..{node.high}"
            return f"{node.function}[k={node.k}]({value}{of} over {window})"
    return "asked_at"
