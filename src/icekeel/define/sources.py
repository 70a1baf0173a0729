"""Where rows come from: files, object storage, or a database that is named here and never opened here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from icekeel.core.errors import Fault, IcekeelError, nearest, shorten, without_passwords
from icekeel.core.kinds import Kind
from icekeel.core.time import parse_duration

from .expressions import is_text
from .fields import Field

ENVIRONMENT = "env:"
_PASSWORD = re.compile(r"://[^/:@\s]*:[^@\s]*@")
_DATABASES = (
    *("postgresql", "postgres", "mysql", "mariadb", "sqlite"),
    *("oracle", "mssql", "duckdb", "snowflake"),
)


@dataclass(frozen=True, slots=True)
class Sql:
    """A table or a query of a database.

    Attributes:
        query: Name of a table, `schema.table`, or a SELECT.
        url: A SQLAlchemy URL without a password, or `env:NAME` where the environment holds it.
        watermark: Column that grows with every change of a row; empty where everything is read each time.
        look_back: How far below the highest watermark seen a run begins, for rows that were committed late.
        whole: Whether an event whose row is not there any more does not hold any more.
    """

    query: str
    url: str
    watermark: str = ""
    look_back: str = ""
    whole: bool = False

    def __str__(self) -> str:
        query = " ".join(self.query.split())
        return f"{query if len(query) <= 60 else query[:57] + '...'} of {without_passwords(self.url)}"


Source: TypeAlias = str | Sql
"""A path or glob relative to the project, a URL of object storage, or `ik.sql(...)`."""


def sql(query: str, *, url: str, watermark: str = "", look_back: str = "", whole: bool = False) -> Sql:
    """Rows of a database, read when `icekeel ingest` runs.

    Args:
        query: A table, `schema.table`, or a SELECT whose columns are the fields.
        url: `env:SHOP_DB` for a SQLAlchemy URL in the environment variable SHOP_DB; a URL without a password may
            stand here. A relative SQLite file is relative to the project.
        watermark: Column, an `ik.Time` or `ik.Num` of the table, that grows whenever a row is written: only rows
            at or above the highest one seen are read again. Without it all rows are, and those seen before are
            recognised.
        look_back: "2d": how far below the highest one seen reading begins.
        whole: The query always gives all there is: an event that is missing is deleted, as of the run that notices.
    """
    return Sql(query, url, watermark, look_back, whole)


def source_faults(place: str, source: object, fields: Mapping[str, Field] | None = None) -> list[Fault]:
    """What is wrong with a source.

    Args:
        fields: Of the event table; None for past questions, which are read as a whole.
    """
    if isinstance(source, Sql):
        return _sql_faults(place, source, fields)
    if not is_text(source):
        allowed = 'a path or glob, "s3://...", ik.sql(...)'
        return [Fault("bad_source", "not a source of rows", place, shorten(source), allowed)]
    if _PASSWORD.search(source):
        return [_secret(place, source)]
    if source.split(":")[0].split("+")[0] in _DATABASES and "://" in source:
        hint = f'ik.sql("table", url="{source}")'
        return [Fault("bad_source", "a database is no file", place, source, hint=hint)]
    return []


def _secret(place: str, url: str) -> Fault:
    hint = 'put the whole URL into an environment variable: url="env:SHOP_DB"'
    what, got = "a password in the project file", without_passwords(url)
    return Fault("secret_in_project", what, place, got, hint=hint)


def _sql_faults(place: str, source: Sql, fields: Mapping[str, Field] | None) -> list[Fault]:
    where = f"{place}, ik.sql"
    found = [
        Fault("bad_source", f"{name}= is a text", where, shorten(value))
        for name in ("query", "url", "watermark", "look_back")
        if not is_text(value := getattr(source, name))
    ]
    if found:
        return found
    if not source.query.strip():
        found.append(Fault("bad_source", "no table and no query", where, hint='ik.sql("orders", ...)'))
    if _PASSWORD.search(source.url):
        found.append(_secret(where, source.url))
    elif source.url.startswith(ENVIRONMENT):
        if not source.url.removeprefix(ENVIRONMENT).isidentifier():
            found.append(Fault("bad_source", "no name of a variable", where, source.url, hint="env:SHOP_DB"))
    elif "://" not in source.url:
        allowed = '"env:SHOP_DB", "sqlite:///shop.db"'
        found.append(Fault("bad_source", "url= is no SQLAlchemy URL", where, shorten(source.url), allowed))
    return found + _reading_faults(where, source, fields)


def _reading_faults(where: str, source: Sql, fields: Mapping[str, Field] | None) -> list[Fault]:
    """What is wrong with how rows are found again."""
    if fields is None:
        words = [name for name in ("watermark", "look_back", "whole") if getattr(source, name)]
        what = "past questions are read whole each time, so they take no {}="
        return [Fault("bad_source", what.format(name), where) for name in words]
    found = []
    field = fields.get(source.watermark)
    if source.watermark and (field is None or field.kind not in (Kind.TIME, Kind.NUM)):
        what = "watermark= names no ik.Time or ik.Num of this table"
        fitting = [one.name for one in fields.values() if one.kind in (Kind.TIME, Kind.NUM)]
        hint = nearest(source.watermark, fitting)
        found.append(Fault("bad_watermark", what, where, source.watermark, ", ".join(fitting), hint))
    if source.whole and source.watermark:
        what = "whole= reads everything, watermark= what is new: not both"
        found.append(Fault("bad_watermark", what, where))
    if source.look_back:
        if field is None or field.kind is not Kind.TIME:
            what = "look_back= needs a watermark= that is an ik.Time"
            found.append(Fault("bad_watermark", what, where, source.look_back))
        try:
            parse_duration(source.look_back)
        except IcekeelError as error:
            found += [fault.at(f"{where}, look_back") for fault in error.faults]
    return found
