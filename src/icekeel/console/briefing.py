"""The page about a model for somebody who decides, one sheet of paper, and the model card beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from icekeel.core.time import format_time, to_datetime
from icekeel.operations.accounts.briefing import Briefing, Rival
from icekeel.operations.accounts.explain import Reason
from icekeel.training.mistakes import PER, Amounts, Choices
from icekeel.training.worth import dollars

from .charts import Bar, bars
from .pages import moment, words
from .report import Block, Callout, Report, Section, Table, Tile, Tiles, section_of

RUNGS: Mapping[str, str] = {
    "group": "a table of averages by group",
    "similar": "the most similar past cases",
    "linear": "a sum of weights",
    "lightgbm": "many small decision trees",
    "xgboost": "many small decision trees",
    "text": "weights of words",
    "sklearn": "a model of scikit-learn",
}
ERRORS: Mapping[str, str] = {
    "log_loss": "average error of the probability",
    "mae": "average error",
    "mape": "average error in per cent",
    "rmse": "typical error",
}
MOST_FIELDS = 4
"""Fields of similar cases that are shown."""
FEW_LETTERS = 40


def briefing_page(about: Briefing) -> Report:
    """The page: what it does, what it is worth, how wrong it is, an example, for whom it is worse, when not to trust it."""
    model, version = about.definition, about.version
    since = f"Since {moment(version.at)[:10]}" if version.at else ""
    rows = about.dossier.contents.rows if about.dossier.contents else 0
    lead = (
        f"{since} by {version.name}: {RUNGS.get(version.rung, version.rung)}, learnt from "
        f"{rows:,} past cases. {_worth(about)}"
    )
    sections = [
        Section("How often it is wrong, and by how much", _wrong_text(about), _wrong_tiles(about)),
        Section("An example", _example_text(about), _example_cases(about)),
        Section("Who is served worse", _subgroups(about)),
        Section("When not to trust it", "\n\n".join(f"• {text}" for text in distrust(about))),
        Section("What something else would cost", _simpler_text(about), _simpler_bars(about)),
    ]
    title = model.about or f"{words(model.name).capitalize()}: what it does"
    return Report(title, lead, sections, foot=_foot(about), sheet=True)


def model_card(about: Briefing) -> Report:
    """The model card (Mitchell et al. 2019, "Model cards for model reporting"): the same for those who work with it."""
    head, *parts = map(section_of, about.dossier.told())
    sections = [
        Section("Intended use", _intended(about)),
        Section("Model", head.text),
        Section("Data", "", [_data(about)]),
        Section("Measured", _wrong_text(about)),
        *parts,
        Section("Limits", "\n\n".join(f"• {text}" for text in distrust(about))),
    ]
    lead = about.definition.about or f"{about.definition.name} of {about.definition.request.__name__}"
    return Report(f"Model card of {about.version.name}", lead, sections, foot=_foot(about))


def text_of(report: Report) -> str:
    """All that a reader reads of a report, without its figures' markup: how long it takes can be told from that."""
    parts = [report.title, report.lead]
    for section in report.sections:
        parts += [section.heading, section.text]
        for block in section.blocks:
            if isinstance(block, Tiles):
                parts += [f"{tile.label} {tile.value} {tile.note}" for tile in block.tiles]
            elif isinstance(block, Callout):
                parts += [block.title, block.text]
    return "\n".join(parts)


def amount(about: Briefing, value: float) -> str:
    """A value of the target with its unit."""
    unit = about.definition.unit
    digits = "0f" if abs(value) >= 100 else "1f" if abs(value) >= 10 else "2f"
    text = f"{abs(value):,.{digits}}"
    sign = "-" if value < 0 else ""
    return f"{sign}{unit}{text}" if unit in ("$", "€", "£") else f"{sign}{text} {unit}".strip()


def error_words(name: str) -> str:
    """A measure of error for somebody who has never heard of it."""
    return ERRORS.get(name, words(name))


def _worth(about: Briefing) -> str:
    simplest = next((one for one in about.rivals if one.simpler), None)
    if simplest is None:
        return "Nothing simpler was tried." if not about.rivals else "It is the simplest that was tried."
    said = RUNGS.get(simplest.name, simplest.name)
    if simplest.usd_per_year <= 0:
        return f"On later cases {said} did as well."
    return f"Against {said} it saves about {dollars(simplest.usd_per_year)} a year."


def _wrong_text(about: Briefing) -> str:
    model, wrong = about.definition, about.wrong
    if wrong is None:
        return "This version was trained before that was kept: train again."
    if isinstance(wrong, Amounts):
        close = next(((float(share), part) for share, part in wrong.within.items() if part >= 0.5), None)
        first = (
            f"Of {wrong.rows:,} later cases, {close[1]:.0%} came within {close[0]:.0%} of the truth. "
            if close
            else f"Of {wrong.rows:,} later cases: "
        )
        way = "too low" if wrong.bias < 0 else "too high"
        return (
            f"{first}Half are off by at most {amount(about, wrong.half)}, one in ten by more than "
            f"{amount(about, wrong.nine_in_ten)}, one in a hundred by more than {amount(about, wrong.ninety_nine)}; "
            f"a usual one is {amount(about, wrong.typical)}. On average it says {amount(about, abs(wrong.bias))} {way}."
            + _life_text(about)
        )
    act = words(model.action.name) if model.action else "says yes"
    verb = f'acts ("{act}")' if model.action else act
    cheaper = min(("doing nothing", wrong.never), ("always acting", wrong.always), key=lambda pair: pair[1])
    saved = 1 - wrong.cost / cheaper[1] if cheaper[1] else 0.0
    return (
        f"Of {wrong.rows:,} later cases {wrong.rate:.0%} came true. It {verb} in {wrong.acted:.0%} of cases and is then right "
        f"{round(10 * wrong.right)} times in ten; of what came true it had seen {wrong.caught:.0%}. With a miss counted as "
        f"{model.action.missed if model.action else 1:g} and a false alarm as {model.action.false if model.action else 1:g}, its mistakes cost "
        f"{wrong.cost:,.0f} per {PER:,} cases, {cheaper[0]} {cheaper[1]:,.0f}: {abs(saved):.0%} {'less' if saved >= 0 else 'more'}."
        + _life_text(about)
    )


def _life_text(about: Briefing) -> str:
    life = about.life
    if isinstance(life.wrong, Amounts) and isinstance(about.wrong, Amounts):
        return f" In use since then: {life.answers:,} answers, half of them off by at most {amount(about, life.wrong.half)}."
    if isinstance(life.wrong, Choices) and isinstance(about.wrong, Choices):
        return (
            f" In use since then: {life.answers:,} answers, mistakes of {life.wrong.cost:,.0f} per {PER:,}."
        )
    return ""


def _wrong_tiles(about: Briefing) -> list[Block]:
    wrong = about.wrong
    if isinstance(wrong, Amounts):
        tiles = [
            Tile(f"within {float(share):.0%} of the truth", f"{part:.0%}")
            for share, part in wrong.within.items()
        ]
        if not tiles:
            tiles = [Tile("half are off by at most", amount(about, wrong.half))]
        tiles.append(Tile("one in a hundred is off by more than", amount(about, wrong.ninety_nine)))
        return [Tiles(tiles)]
    if isinstance(wrong, Choices):
        return [
            Tiles(
                [
                    Tile("comes true", f"{wrong.rate:.0%}"),
                    Tile("right when it acts", f"{wrong.right:.0%}"),
                    Tile("seen of what comes true", f"{wrong.caught:.0%}"),
                    Tile(f"cost per {PER:,}", f"{wrong.cost:,.0f}", f"doing nothing: {wrong.never:,.0f}"),
                ]
            )
        ]
    return []


def _example_text(about: Briefing) -> str:
    shown = about.example
    if shown is None:
        return "This version was trained before one was kept: train again."
    probability = about.definition.task == "probability"
    said = f"{shown.prediction:.0%}" if probability else amount(about, shown.prediction)
    came = (
        ("it came true" if shown.outcome > 0.5 else "it did not")
        if probability
        else f"it was {amount(about, shown.outcome)}"
    )
    asked = f"{shown.id}, asked " if shown.id else "A case asked "
    because = (
        f" Main reasons: {', '.join(_reason(about, one) for one in about.reasons)}." if about.reasons else ""
    )
    return (
        f"{asked}{shown.asked_at[:10]}, of middling error: it said {said}, and {came}.{because}"
        + _alike_text(about)
    )


def _reason(about: Briefing, one: Reason) -> str:
    if one.unit != "amount":
        return words(str(one))
    effect = ("+" if one.effect >= 0 else "") + amount(about, one.effect)
    return f"{words(one.feature)} {one.value} ({effect})"


def _alike_text(about: Briefing) -> str:
    outcomes = [case.outcome for case in about.cases]
    if not outcomes:
        return ""
    if about.definition.task == "probability":
        came = f"{sum(outcome > 0.5 for outcome in outcomes) or 'none'} came true"
    else:
        came = f"they came to {amount(about, min(outcomes))} to {amount(about, max(outcomes))}"
    return f" The {len(outcomes)} cases before it that are most like it: {came}."


def _example_cases(about: Briefing) -> list[Block]:
    """The cases most like the example, the example first, by the fields that matter most."""
    shown = about.example
    if shown is None or not about.cases:
        return []
    ranked = [name for name, _ in about.importance if name in shown.request]
    fields = [*ranked, *(name for name in shown.request if name not in ranked)][:MOST_FIELDS]
    came = "came true" if about.definition.task == "probability" else "came to"
    rows: list[list[str | float | int | None]] = [
        [
            "this one",
            shown.asked_at[:10],
            _came(about, shown.outcome),
            *(_cell(shown.request[name]) for name in fields),
        ]
    ]
    rows += [
        [
            case.id or "–",
            f"{to_datetime(case.asked_at):%Y-%m-%d}",
            _came(about, case.outcome),
            *(_cell(case.request.get(name)) for name in fields),
        ]
        for case in about.cases
    ]
    return [Table(["case", "asked", came, *map(words, fields)], rows, strong=[0])]


def _came(about: Briefing, outcome: float) -> str:
    if about.definition.task == "probability":
        return "yes" if outcome > 0.5 else "no"
    return amount(about, outcome)


def _cell(value: Any) -> str | float | None:
    if isinstance(value, str):
        return value if len(value) <= FEW_LETTERS else value[: FEW_LETTERS - 1] + "…"
    return None if value is None else float(value)


def _subgroups(about: Briefing) -> str:
    found = next((one for one in about.dossier.audits if one.get("audit") == "subgroups"), None)
    if found is None:
        return "Not looked at yet: icekeel audit tells."
    error = about.definition.error
    what = str(found.get("what", "")).rstrip(".").replace(error, error_words(error))
    todo = str(found.get("todo", "")).rstrip(".")
    return f"{what[:1].upper()}{what[1:]}." + (
        f" To do: {todo}." if todo and found.get("verdict") != "pass" else ""
    )


def distrust(about: Briefing) -> Iterator[str]:
    """When its answers should not be believed, one sentence each, what is wrong at present first."""
    model = about.definition
    for alert in about.alerts[:2]:
        yield f"At present: {alert}."
    for change in about.dossier.overrides:
        yield f"It serves although a gate failed, because: {change.override}."
    for one in about.dossier.audits:
        if one.get("verdict") in ("warn", "block") and one.get("audit") != "subgroups":
            yield f"{str(one.get('audit')).capitalize()}: {str(one.get('what')).rstrip('.')}."
    if about.guard:
        does = type(model.guard.otherwise).__name__ if model.guard else ""
        then = {"Refuse": "refused", "Mark": "marked"}.get(does, "answered from elsewhere")
        yield (
            f"A request unlike anything it has seen is {then}: {float(about.guard['flag_rate']):.1%} of ordinary ones are."
        )
        spots = [str(spot) for spot in about.guard.get("blind_spots", ())]
        if spots:
            yield f"It does not notice {spots[0]}."
    else:
        yield "Nothing checks whether a request is unlike all that it has seen: no guard is declared."
    if about.coverage is not None:
        yield (
            f"The range it gives is missed by {1 - about.coverage:.0%} of outcomes, and by more where a request is unusual."
        )
    yield (
        f"It knows the world until {format_time(about.version.trained_to)[:10]}: where the truth changes since, only "
        "outcomes show it, and they take their time."
    )


def _simpler_text(about: Briefing) -> str:
    if not about.rivals:
        return "Nothing else was tried."
    tolerance = about.definition.choose.within.per_year
    error = about.definition.error
    reason = str(about.version.ladder.get("reason", "")).replace(error, error_words(error))
    return (
        f"{reason[:1].upper()}{reason[1:]}. Up to {dollars(tolerance)} a year is given for simplicity."
        + _features_text(about)
    )


def _features_text(about: Briefing) -> str:
    """What plain features would cost, beside what another algorithm would."""
    found, point = about.features, about.definition.choose.within.error_point
    if found is None:
        return ""
    plain = found.features.gain / 0.01 * point
    said = f"The same kind on plain features would cost {dollars(abs(plain))} a year {'more' if plain >= 0 else 'less'}"
    if found.algorithm is None:
        return f" {said}."
    other = abs(found.algorithm.gain) / 0.01 * point
    most = "Features matter more than the algorithm. " if plain > other else ""
    return f" {most}{said}; {RUNGS.get(found.other, found.other)} on these features would change it by {dollars(other)}."


def _simpler_bars(about: Briefing) -> list[Block]:
    shown: list[Rival] = list(about.rivals)
    if not shown:
        return []
    rows = [Bar(RUNGS.get(one.name, one.name), one.usd_per_year) for one in shown]
    return [bars("More a year than what serves, in dollars", rows, x_title="dollars a year", digits=0)]


def _intended(about: Briefing) -> str:
    model = about.definition
    fields = ", ".join(
        field.name + (" (private)" if field.limits.private else "")
        for field in model.request.icekeel_fields.values()
    )
    asked = f"Asked with: {fields}."
    acts = (
        f"It is acted on (“{words(model.action.name)}”) above {model.action.threshold:.0%}: a miss counts as {model.action.missed:g}, a false "
        f"alarm as {model.action.false:g}."
        if model.action
        else ""
    )
    influences = (
        "Its answer changes what happens afterwards: versions are compared by a split test alone."
        if model.influences
        else "Its answer does not change what happens afterwards: versions are compared on the same requests."
    )
    return "\n\n".join(part for part in (model.about, asked, acts, influences) if part)


def _data(about: Briefing) -> Table:
    version, counts = about.version, about.version.metrics.get("counts", {})
    rows = [
        ("past questions", f"{int(counts.get('questions', 0)):,}"),
        ("with an outcome", f"{int(counts.get('known', 0)):,}"),
        ("without", f"{int(counts.get('absent', 0)):,}"),
        ("outcome still to come", f"{int(counts.get('pending', 0)):,}"),
        ("asked from", moment(version.trained_from)),
        ("to", moment(version.trained_to)),
        ("tested on later ones from", str(version.metrics.get("tested_from", ""))[:16].replace("T", " ")),
        ("tested", f"{int(version.metrics.get('tested_rows', 0)):,}"),
    ]
    return Table(("", ""), rows)


def _foot(about: Briefing) -> str:
    version = about.version
    tested = str(version.metrics.get("tested_from", ""))[:10]
    return (
        f"{version.name}, bundle {version.digest[:12]}, snapshot {version.snapshot[:12]}. Errors are of cases asked later than "
        f"those learnt from (from {tested}); {dollars(about.definition.choose.within.error_point)} a year for 0.01 of "
        f"{error_words(about.definition.error)}, as the project states."
    )
