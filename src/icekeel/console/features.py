"""The page of a feature report: what each feature is worth, which can go, what they look like, where they come from."""

from __future__ import annotations

import math
from collections.abc import Sequence

from icekeel.operations.workshop.feature_report import FeatureFinding, FeatureReport, Worth

from .charts import Bar, bars, spark
from .lineage import Item, lineage
from .report import Callout, Cell, Chart, Report, Section, Table, Tile, Tiles, Tone, render


def features_page(report: FeatureReport) -> str:
    """The report as one HTML file that fetches nothing and runs nothing."""
    earlier, later = report.earlier, report.later
    lead = (
        f"{report.carriers}; {report.advice}.\n\n"
        f"A {report.rung} model learnt from {earlier.rows:,} questions of {earlier.start[:10]} to {earlier.end[:10]} "
        f"and judged on {later.rows:,} later ones, {later.start[:10]} to {later.end[:10]}: "
        f"{report.error} {report.error_value:.4f}."
    )
    sections = [
        Section("Worth", _WORTH, [_tiles(report), _shuffled(report), _dropped(report)]),
        Section("What to delete", _DELETE, [_deletion(report), _worths(report)]),
        Section("Values", _VALUES, [*_warned(report.features), _values(report.features)]),
        Section("Lineage", "", [_picture(report), _reads(report.features)]),
    ]
    return render(Report(f"Features of {report.model}", lead, sections, f"icekeel features {report.model}"))


_WORTH = (
    "Shuffled: how much the error rises when a feature's values are shuffled among the later questions, the model "
    "staying as it is (Breiman 2001). Dropped: how much it rises when the model is learnt without the feature. Of two "
    "features that say the same, each carries half, and dropping either costs nothing. Intervals are 95 %, over whole "
    "days drawn with replacement; those of dropped features cover the chance in a fit as well."
)
_DELETE = (
    "A feature can go if dropping it shows no loss, and together with all others that go none either, surely less than "
    "the project's own tolerance. They were chosen and judged on the same rows, which flatters: delete them, train, and "
    "let the gates decide."
)
_VALUES = (
    "Of the later questions. Drift is the share of rows that would have to move to make the later values look like the "
    "earlier ones. A picture runs from the 1 % to the 99 % quantile."
)


def _tiles(report: FeatureReport) -> Tiles:
    us = "n/a" if report.read_us is None else f"{report.read_us:.0f} us"
    saved = "" if report.saved_us is None else f"{report.saved_us:.0f} us less without those that can go"
    return Tiles(
        [
            Tile("Carry four fifths", f"{report.four_fifths} of {len(report.features)}"),
            Tile("The best fifth carries", f"{report.fifth_share:.0%}", f"{report.fifth} features"),
            Tile("Can go", str(len(report.deletable)), report.money if report.deletable else ""),
            Tile("Reading all, one request", us, saved or "no online store here: the keeper makes it"),
        ]
    )


def _bars(title: str, report: FeatureReport, worths: Sequence[tuple[str, Worth]]) -> Chart:
    rows = [Bar(name, worth.gain, worth.low, worth.high) for name, worth in worths]
    return bars(title, rows, x_title=f"rise of {report.error}", digits=_digits(report))


def _digits(report: FeatureReport) -> int:
    """Decimals at which the largest worth has four digits."""
    largest = max(abs(worth.gain) for one in report.features for worth in (one.shuffled, one.dropped))
    return max(0, 3 - math.floor(math.log10(largest))) if largest else 0


def _shuffled(report: FeatureReport) -> Chart:
    return _bars(
        f"Shuffled: {report.carriers}", report, [(one.name, one.shuffled) for one in report.features]
    )


def _dropped(report: FeatureReport) -> Chart:
    ranked = sorted(report.features, key=lambda one: -one.dropped.gain)
    needed = sum(one.dropped.low > 0 for one in ranked)
    title = f"Dropped: {needed} of {len(ranked)} show a loss of their own"
    return _bars(title, report, [(one.name, one.dropped) for one in ranked])


def _deletion(report: FeatureReport) -> Callout:
    tone: Tone = "good" if report.deletable else "plain"
    return Callout(", ".join(report.deletable) or "Nothing to delete", f"{report.advice}.", tone)


def _worths(report: FeatureReport) -> Table:
    headers = ("feature", "kind", "share", "dropped", "from", "to", "worth $ a year", "read us", "can go")
    digits = _digits(report)
    rows: list[tuple[Cell, ...]] = [
        (
            *(one.name, one.kind, f"{one.share:.1%}"),
            *(f"{value:+,.{digits}f}" for value in (one.dropped.gain, one.dropped.low, one.dropped.high)),
            *(f"{one.dropped.usd_per_year:+,.0f}", None if one.cost_us is None else f"{one.cost_us:.1f}"),
            "can go" if one.delete else "",
        )
        for one in report.features
    ]
    return Table(headers, rows)


def _values(features: Sequence[FeatureFinding]) -> Table:
    headers = ("feature", "type", "nulls", "drift", "distribution", "1 %", "median", "99 %", "most frequent")
    rows: list[tuple[Cell, ...]] = []
    for one in features:
        held = one.distribution
        quantiles = [held.quantiles.get(name) for name in ("p1", "p50", "p99")]
        top = ", ".join(f"{name} {share:.0%}" for name, share in list(held.top.items())[:3])
        shape = spark(
            held.counts or [round(1e6 * share) for share in held.top.values()], gaps=not held.counts
        )
        rows.append((one.name, one.type, f"{one.nulls:.1%}", f"{one.drift:.1%}", shape, *quantiles, top))
    return Table(headers, rows)


def _warned(features: Sequence[FeatureFinding]) -> list[Callout]:
    texts = [f"{one.name}: {'; '.join(one.warnings)}." for one in features if one.warnings]
    return [Callout(f"{len(texts)} to look at", "\n\n".join(texts), "warn")] if texts else []


def _reads(features: Sequence[FeatureFinding]) -> Table:
    rows = [
        (one.name, ", ".join(one.built_on), "; ".join(one.windows), ", ".join(one.request))
        for one in features
    ]
    return Table(("feature", "built on", "windows", "request"), rows)


def _picture(report: FeatureReport) -> Chart:
    items = [
        Item(one.name, one.windows, bool(one.request), one.built_on, one.share) for one in report.features
    ]
    tables = {table for one in report.features for table in one.sources}
    windows = {window for one in report.features for window in one.windows}
    title = f"{len(items)} features from {len(windows)} windows over {len(tables)} tables"
    return lineage(title, "request", report.model, items)
