"""What the compiled guard catches, what it leaves alone, and what its report says."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from icekeel.core.errors import TrainingError
from icekeel.core.frames import Column, Frame, Kind
from icekeel.guard import KINDS, Guard, Tables, VerdictKind
from icekeel.training.guarding import GuardReport, compile_guard
from tests.unit.guard.quotes import COLUMNS, changed, quotes, rows_of

Row = list[float | str | None]
Compiled = tuple[Guard, GuardReport, list[Row]]


@pytest.fixture(scope="module", params=[40_000, 8_000])
def compiled(request: pytest.FixtureRequest) -> Compiled:
    rng = np.random.default_rng(7)
    frame, price = quotes(rng, request.param)
    later, later_price = quotes(rng, max(request.param // 6, 1_600))
    target = np.concatenate([price, later_price])
    data, report = compile_guard(
        frame, COLUMNS, target, scale="log", later=later, budget=0.01, target_name="price"
    )
    test, _ = quotes(rng, 5_000)
    return Guard.load(data), report, rows_of(test)


def recall(guard: Guard, kind: VerdictKind, rows: list[Row]) -> float:
    return float(np.mean([any(verdict.kind == kind for verdict in guard.check(row)) for row in rows]))


def test_ordinary_traffic_stays_within_the_budget(compiled: Compiled) -> None:
    guard, report, rows = compiled
    assert report.flag_rate <= 0.01
    assert np.mean([bool(guard.check(row)) for row in rows]) <= (0.01 if report.rows > 10_000 else 0.015)


def test_every_kind_is_found(compiled: Compiled) -> None:
    guard, _, rows = compiled
    rows = rows[:1_000]
    books = [row for row in rows if row[0] == "book"]
    posters = [row for row in rows if row[0] == "poster"]
    assert recall(guard, "unseen_value", changed(rows, finish="velvet")) == 1
    assert recall(guard, "unseen_value", changed(rows, quantity=None)) == 1
    assert recall(guard, "unseen_pair", changed(books, substrate="vinyl")) == 1
    # The pair alone is named, not the triples around it.
    assert [verdict.columns for verdict in guard.check(changed(books, substrate="vinyl")[0])] == [
        ("product", "substrate")
    ]
    # Ten thousand is an everyday number of labels, but not of posters.
    assert recall(guard, "out_of_range", changed(posters, quantity=10_000.0)) == 1
    never = changed(rows, die_cut="custom", ink="metallic", turnaround="rush")
    flagged = [{verdict.columns for verdict in guard.check(row)} for row in never]
    assert all(("die_cut", "ink", "turnaround") in columns for columns in flagged)


def test_small_data_leaves_blind_spots_and_says_so(compiled: Compiled) -> None:
    _, report, _ = compiled
    said = any(spot.startswith("triples never seen whose smallest effect") for spot in report.blind_spots)
    assert said == (report.rows < 10_000)


def test_the_report_has_every_kind_once(compiled: Compiled) -> None:
    _, report, _ = compiled
    assert tuple(kind.kind for kind in report.kinds) == KINDS
    rates = [kind.rate for kind in report.kinds]
    assert max(rates) <= report.flag_rate <= sum(rates) + 1e-12


def drifting(n_rows: int, seed: int, *, new: float) -> tuple[Frame, np.ndarray]:
    """Planes by tail number, most of them rare, a share `new` of rows with one not seen before."""
    rng = np.random.default_rng(seed)
    plane = rng.zipf(1.3, n_rows * 4)
    plane = plane[plane < 3_000][:n_rows]
    tail = np.array([f"N{number}" for number in plane], dtype=object)
    tail[rng.random(n_rows) < new] = "NEW"
    carrier = plane % 5
    intl = np.where(rng.random(n_rows) < 0.1, np.nan, rng.integers(0, 2, n_rows))
    late = (rng.random(n_rows) < 0.2 + 0.3 * (carrier == 3)).astype(float)
    carriers = np.array([str(number) for number in carrier], dtype=object)
    return Frame({"tail": tail, "carrier": carriers, "intl": intl}), late


FLIGHTS = (Column("tail", Kind.CAT), Column("carrier", Kind.CAT), Column("intl", Kind.FLAG))


def test_values_that_are_always_new_are_a_blind_spot_not_a_flood() -> None:
    frame, late = drifting(20_000, 1, new=0)
    later, later_late = drifting(4_000, 2, new=0.03)
    target = np.concatenate([late, later_late])
    data, report = compile_guard(
        frame, FLIGHTS, target, scale="logit", later=later, budget=0.01, max_values=32, target_name="late"
    )
    guard = Guard.load(data)
    assert report.flag_rate <= 0.01
    assert any(spot.startswith("new values of tail;") for spot in report.blind_spots)
    assert any("rare values of tail" in spot for spot in report.blind_spots)
    assert guard.check(["NEWER", "3", 1.0]) == []
    assert [verdict.code for verdict in guard.check(["N1", "9", 1.0])] == ["unseen_value:carrier"]
    # Plane N1 flies for carrier 1 only; a null flag is a value like any other and was seen.
    assert [v.code for v in guard.check(["N1", "3", float("nan")])] == ["unseen_pair:tail+carrier"]


def test_a_numbers_range_follows_the_category_that_narrows_it_most() -> None:
    rng = np.random.default_rng(3)
    product = rng.integers(0, 3, 3_000)
    frame = Frame(
        {
            "product": np.array(["a", "b", "c"], dtype=object)[product],
            "noise": np.array(["x", "y"], dtype=object)[rng.integers(0, 2, 3_000)],
            "size": 100.0 * product + rng.normal(0, 1, 3_000),
        }
    )
    columns = (Column("noise", Kind.CAT), Column("product", Kind.CAT), Column("size", Kind.NUM))
    data, _ = compile_guard(
        frame, columns, np.tile(frame["size"], 2), scale="plain", later=frame, budget=0.05
    )
    guard = Guard.load(data)
    assert guard.check(["x", "b", 100.0]) == []
    (verdict,) = guard.check(["x", "b", 200.0])
    assert verdict.columns == ("size", "product")
    assert "where product=b" in verdict.reason
    # An unseen product has no range of its own: that of all rows holds.
    assert [v.kind for v in guard.check(["x", "d", 200.0])] == ["unseen_value"]
    distances = [guard.check(["x", "b", 100.0 + far])[0].score for far in (20.0, 40.0, 80.0)]
    assert all(near < far for near, far in pairwise(distances))


def test_effects_are_those_of_the_data() -> None:
    """Options that move the price by known factors, never all three together."""
    rng = np.random.default_rng(5)
    options = rng.random((20_000, 3)) < 0.1
    options[options.all(axis=1)] = False
    price = np.exp(np.log((3.0, 2.0, 1.5)) @ options.T + rng.normal(0, 0.1, len(options)))
    frame = Frame({name: options[:, at].astype(float) for at, name in enumerate("abc")})
    columns = [Column(name, Kind.FLAG) for name in "abc"]
    for scale, target, words in (
        ("log", price, "each alone moves the price by 1.4"),
        ("plain", np.log(price), "each alone moves price by 0.3"),
    ):
        data, _ = compile_guard(
            frame, columns, np.tile(target, 2), scale=scale, later=frame, budget=0.01, target_name="price"  # type: ignore[arg-type]
        )  # fmt: skip
        (verdict,) = Guard.load(data).check([1.0, 1.0, 1.0])
        assert verdict.kind == "unseen_triple"
        # Centred on the mean over rows, 0.9 ln 1.5 remains of ln 1.5.
        assert verdict.score == pytest.approx(0.9 * np.log(1.5), abs=0.02)
        assert words in verdict.reason


def test_a_missing_combination_of_values_that_move_nothing_is_found_by_its_expected_rows() -> None:
    rng = np.random.default_rng(6)
    flags = rng.random((20_000, 3)) < 0.3
    flags[flags.all(axis=1)] = False
    frame = Frame({name: flags[:, at].astype(float) for at, name in enumerate("abc")})
    columns = [Column(name, Kind.FLAG) for name in "abc"]
    data, _ = compile_guard(frame, columns, np.ones(40_000), scale="log", later=frame, budget=0.01)
    (verdict,) = Guard.load(data).check([1.0, 1.0, 1.0])
    assert verdict.kind == "missing_combination"
    assert "rows were to be expected" in verdict.reason


def test_the_value_that_sets_a_threshold_is_not_flagged() -> None:
    """Common extremes keep the range when the two rows far beyond it are counted too: only the margin lets them in."""
    rng = np.random.default_rng(8)
    for _ in range(60):
        drawn = np.clip(np.exp(rng.normal(0, 1, 3_300)), 0.2, 5.0)
        far = float(np.exp(rng.normal(3, 0.3)))
        drawn[-2:] = far
        frame, later = Frame({"x": drawn[:3_000]}), Frame({"x": drawn[3_000:]})
        data, _ = compile_guard(
            frame, [Column("x", Kind.NUM)], drawn, scale="plain", later=later, budget=0.01
        )
        guard = Guard.load(data)
        assert guard.check([far]) == []
        assert guard.check([far * 1.01]) != []


def test_what_came_late_was_learnt_and_is_not_flagged() -> None:
    rng = np.random.default_rng(10)

    def window(n_rows: int, *, late: bool) -> Frame:
        place = rng.integers(0, 4, n_rows)
        kind = np.where(rng.random(n_rows) < 0.5, place, 3 - place)
        place, size = np.array(list("nesw"), dtype=object)[place], rng.normal(0, 1, n_rows)
        kind = np.array(list("abcd"), dtype=object)[kind]
        if late:
            kind[:2], place[:2], size[2] = "new", "n", np.nan
            kind[3], place[3] = "a", "e"
        return Frame({"kind": kind, "place": place, "size": size})

    columns = (Column("kind", Kind.CAT), Column("place", Kind.CAT), Column("size", Kind.NUM))
    frame, later, after = window(4_000, late=False), window(1_000, late=True), window(4_000, late=False)
    data, report = compile_guard(
        frame, columns, rng.normal(size=5_000), scale="plain", later=later, budget=0.02
    )
    guard = Guard.load(data)
    rates = {kind.kind: kind.rate for kind in report.kinds}
    assert (report.rows, rates["unseen_value"], rates["unseen_pair"]) == (5_000, 0.003, 0.001)
    assert guard.check(["new", "n", 0.0]) == guard.check(["a", "e", 0.0]) == []
    assert guard.check(["a", "n", float("nan")]) == []
    assert [v.code for v in guard.check(["newer", "n", 0.0])] == ["unseen_value:kind"]
    assert [v.code for v in guard.check(["a", "s", 0.0])] == ["unseen_pair:kind+place"]
    flags = sum(
        bool(guard.check(row)) for row in zip(*(after[c.name].tolist() for c in columns), strict=True)
    )
    assert flags <= 80 + 3 * np.sqrt(80)


def test_a_prediction_is_odd_where_no_outcome_of_its_segment_lay() -> None:
    rng = np.random.default_rng(12)
    product = rng.integers(0, 2, 6_000)
    price = np.exp(rng.normal(0, 0.3, 6_000)) * np.array([10.0, 1_000.0])[product]
    said = price * np.exp(rng.normal(0, 0.1, 6_000))
    said[:3_000] = np.nan
    frame = Frame({"product": np.array(["card", "box"], dtype=object)[product]})
    data, report = compile_guard(
        frame.take(np.arange(5_000)), [Column("product", Kind.CAT)], price, scale="log",
        later=frame.take(np.arange(5_000, 6_000)), budget=0.01, predictions=said, target_name="price",
    )  # fmt: skip
    guard = Guard.load(data)
    assert report.flag_rate <= 0.01
    assert guard.check(["card"], 10.0) == guard.check(["box"], 1_000.0) == guard.check(["card"], None) == []
    (verdict,) = guard.check(["card"], 1_000.0)
    assert verdict.code == "odd_prediction:price+product:above"
    assert "where product=card" in verdict.reason
    assert guard.check(["box"], 10.0)[0].code == "odd_prediction:price+product:below"


def test_probabilities_are_held_against_probabilities() -> None:
    rng = np.random.default_rng(13)
    said = rng.uniform(0.1, 0.4, 4_000)
    frame = Frame({"x": rng.normal(0, 1, 4_000)})
    late = (rng.random(4_000) < said).astype(float)
    data, _ = compile_guard(
        frame.take(np.arange(3_000)), [Column("x", Kind.NUM)], late, scale="logit",
        later=frame.take(np.arange(3_000, 4_000)), budget=0.01, predictions=said,
    )  # fmt: skip
    guard = Guard.load(data)
    assert guard.check([0.0], 0.3) == []
    assert [v.kind for v in guard.check([0.0], 0.9)] == ["odd_prediction"]
    without, _ = compile_guard(
        frame.take(np.arange(3_000)), [Column("x", Kind.NUM)], late, scale="logit",
        later=frame.take(np.arange(3_000, 4_000)), budget=0.01,
    )  # fmt: skip
    assert Guard.load(without).check([0.0], 0.9) == []


def test_common_requests_without_an_outcome_do_not_use_up_the_budget() -> None:
    """Of two places no outcome was ever known: one is asked for all the time, the other hardly ever."""
    rng = np.random.default_rng(15)
    place = np.array(["a", "b", "c"], dtype=object)[rng.integers(0, 3, 5_000)]
    late = (rng.random(5_000) < 0.3).astype(float)
    asked = place[4_000:].copy()
    asked[::20], asked[1] = "nowhere", "seldom"
    column = [Column("place", Kind.CAT)]
    data, report = compile_guard(
        Frame({"place": place[:4_000]}), column, late, scale="logit", later=Frame({"place": place[4_000:]}),
        asked=Frame({"place": asked}), budget=0.02,
    )  # fmt: skip
    guard = Guard.load(data)
    assert report.blind_spots == (
        "place=nowhere, of which nothing could be learnt; 5.00% of later requests have one",
    )
    assert (report.later_rows, report.flag_rate) == (1_000, 0.001)
    assert guard.check(["nowhere"]) == []
    assert [v.code for v in guard.check(["seldom"])] == ["unseen_value:place"]
    assert list(guard.check_many([["a", "nowhere", "seldom"]])) == [2]


@pytest.mark.parametrize(("known", "odd"), [(slice(3_000, 6_000), 8), (slice(5_100, 6_000), 3)])
def test_probabilities_keep_the_budget_on_rows_that_did_not_set_their_range(known: slice, odd: int) -> None:
    """Of 1,000 rows 6 may be flagged; where fewer than half of them have a prediction to go by, 2."""
    rng = np.random.default_rng(16)
    said = np.full(6_000, np.nan)
    said[known] = rng.beta(2, 6, known.stop - known.start)
    said[-odd:] = 0.99
    frame = Frame({"x": rng.normal(0, 1, 6_000)})
    late = (rng.random(6_000) < 0.3).astype(float)
    data, report = compile_guard(
        frame.take(np.arange(5_000)), [Column("x", Kind.NUM)], late, scale="logit",
        later=frame.take(np.arange(5_000, 6_000)), budget=0.01, predictions=said,
    )  # fmt: skip
    spot = [one for one in report.blind_spots if one.startswith("predictions outside")]
    assert len(spot) == 1
    assert Guard.load(data).check([0.0], 0.99) == []
    assert report.flag_rate <= 0.01


def test_a_number_that_may_be_missing_is_not_flagged_where_it_is() -> None:
    rng = np.random.default_rng(17)
    x = np.where(rng.random(5_000) < 0.1, np.nan, rng.normal(0, 1, 5_000))
    frame, later = Frame({"x": x[:4_000]}), Frame({"x": x[4_000:]})
    data, report = compile_guard(
        frame, [Column("x", Kind.NUM)], np.ones(5_000), scale="log", later=later, budget=0.01
    )
    rates = {kind.kind: kind.rate for kind in report.kinds}
    assert (rates["unseen_value"], report.blind_spots) == (0, ())
    assert Guard.load(data).check([None]) == []


def test_what_is_missing_is_ranked_by_the_error_it_may_cause() -> None:
    """Two triples that never occur: of one the parts are rarer and move the price more, of the other they are common."""
    rng = np.random.default_rng(14)
    options = rng.random((20_000, 6)) < np.array([0.2, 0.2, 0.2, 0.5, 0.5, 0.5])
    options[options[:, :3].all(axis=1), 0] = False
    options[options[:, 3:].all(axis=1), 3] = False
    price = 100 * np.exp(np.log((2, 2, 2, 1.5, 1.5, 1.5)) @ options.T + rng.normal(0, 0.05, len(options)))
    frame = Frame(
        {name: np.where(options[:, at], "yes", "no").astype(object) for at, name in enumerate("abcdef")}
    )
    columns = [Column(name, Kind.CAT) for name in "abcdef"]
    early, later = frame.take(np.arange(16_000)), frame.take(np.arange(16_000, 20_000))
    _, report = compile_guard(early, columns, price, scale="log", later=later, budget=0.01)
    common, rare = report.missing[:2]
    assert common.values == dict.fromkeys("def", "yes")
    assert rare.values == dict.fromkeys("abc", "yes")
    assert rare.flagged_as == "unseen_triple"
    # The least effect, centred on its mean over the rows: 0.8 ln 2 and 0.5 ln 1.5.
    assert rare.error == pytest.approx(2**0.8 - 1, abs=0.02)
    assert common.error == pytest.approx(1.5**0.5 - 1, abs=0.02)
    assert rare.typical == pytest.approx(100 * 2**3 * 1.5**1.375, rel=0.1)
    # Of 800 rows with each pair 160 were to be the triple; they lack a, of which 3,840 are left.
    assert rare.expected == pytest.approx(640 * 640 / 3_840, rel=0.1)
    harm = [one.expected * one.error for one in report.missing]
    assert harm == sorted(harm, reverse=True)


def test_more_rows_leave_less_unseen(compiled: Compiled) -> None:
    _, report, _ = compiled
    rows = [point.rows for point in report.growth]
    unseen = [point.unseen for point in report.growth]
    assert rows == sorted(rows)
    assert unseen == sorted(unseen, reverse=True)
    assert rows[-1] == report.rows - report.later_rows
    assert unseen[0] > 0


def test_values_that_move_nothing_have_no_effect_however_rare() -> None:
    rng = np.random.default_rng(9)
    values = np.array([str(value) for value in rng.zipf(1.5, 5_000) % 300], dtype=object)
    frame = Frame({"value": values})
    data, _ = compile_guard(
        frame, [Column("value", Kind.CAT)], rng.normal(size=10_000), scale="plain", later=frame, budget=0.01
    )
    (category,) = Tables.decode(data).categories
    assert np.mean(np.array(category.effects) > 0) < 0.1


def test_all_faults_are_reported_at_once() -> None:
    frame = Frame({"id": np.array(["1"], dtype=object), "x": np.array([1.0])})
    columns = [Column("id", Kind.ID), Column("x", Kind.NUM), Column("y", Kind.NUM)]
    with pytest.raises(TrainingError) as error:
        compile_guard(frame, columns, np.array([-1.0, 1.0]), scale="log", later=frame, budget=2.0)
    assert [(fault.code, fault.where) for fault in error.value.faults] == [
        ("guard_column", "id"),
        ("guard_column", "y"),
        ("guard_column", "y"),
        ("guard_budget", "budget"),
        ("guard_target", "target"),
    ]
    with pytest.raises(TrainingError, match="expected rows"):
        compile_guard(
            frame.take(np.array([], dtype=int)), [], np.zeros(0), scale="plain", later=frame, budget=0.1
        )
