"""One HTML file from a template and values: styles inside, nothing fetched, no script."""

from __future__ import annotations

import functools
import re

import jinja2

from icekeel.core.time import DAY, HOUR, MINUTE, SECOND, format_time


def page(template: str, **values: object) -> str:
    """The page as HTML; whatever text the values hold is escaped."""
    return _templates().get_template(template).render(**values)


@functools.cache
def _templates() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("icekeel.console"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(moment=moment, words=words, paragraphs=paragraphs)
    return found


def moment(at: int) -> str:
    """A time for reading, to the minute: `2013-03-01 06:30`, microseconds UTC being given."""
    return format_time(at)[:16].replace("T", " ")


def age(micros: int) -> str:
    """A time span for reading, in its largest unit: `42 s`, `3 min`, `5 h`, `12 days`; never below zero."""
    for unit, name in ((2 * DAY, "days"), (2 * HOUR, "h"), (2 * MINUTE, "min")):
        if micros >= unit:
            return f"{2 * micros // unit} {name}"
    return f"{max(0, micros) // SECOND} s"


def words(name: str) -> str:
    """A name from code for reading: `start_shadow` is `start shadow`."""
    return name.replace("_", " ")


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text, which empty lines part."""
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
