"""To forget an entity: destroy what leads to its pseudonym, count what is left of that, keep a receipt."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec

from icekeel.compile import literal, quote
from icekeel.core.errors import Fault, ProjectError, RequestError, StateError, nearest, shorten
from icekeel.core.ids import digest, new_id
from icekeel.core.time import Clock
from icekeel.data import Manifest, Receipt, StoredFile, Vault
from icekeel.data.answers import ANSWERS, Wanted
from icekeel.data.history import QUESTIONS
from icekeel.data.ingest import QUARANTINE
from icekeel.data.relations import columns_of, connect, parquet
from icekeel.data.vault import FOLLOW_S
from icekeel.define import Project
from icekeel.define.fields import Field
from icekeel.journal import Forgotten, Writer
from icekeel.operations.workspace import Workspace

_MARKED = "fields"
"""The fact of the vault that names the fields whose values it has hidden from the beginning."""


def stored_fields(project: Project) -> Iterator[tuple[str, Field]]:
    """Each field, and the stored table that has a column of it."""
    for table in project.tables.values():
        yield from ((table.name, field) for field in table.fields.values())
    for model in project.models.values():
        yield from ((f"{ANSWERS}/{model.name}", field) for field in model.request.icekeel_fields.values())


def entities(project: Project) -> set[str]:
    """What the private fields of a project name."""
    return {field.entity for _, field in stored_fields(project)} - {""}


def as_stored(project: Project, vault: Vault, wanted: Wanted) -> Wanted:
    """The same answers, looked for by the pseudonyms of a private key or unit.

    Raises:
        RequestError: the key or unit of some models is private, and `wanted` names no model.
    """
    models = [model for model in project.models.values() if wanted.model in (None, model.name)]
    keys, units = set(), set()
    for model in models:
        fields, parts = model.request.icekeel_fields, [field.name for _, field in model.outcome.keyed.keys]
        unit = parts[0] if model.rollout is None else model.rollout.unit.node.name
        keys.add(fields[parts[0]].entity if len(parts) == 1 else "")
        units.add(fields[unit].entity)

    def hidden(value: str | None, found: set[str]) -> str | None:
        if value is None or found <= {""}:
            return value
        if len(found) > 1:
            what, allowed = "some models keep this under pseudonyms", ", ".join(project.models)
            raise RequestError(Fault("which_model", what, "model", "", allowed))
        return vault.seek(next(iter(found)), value)

    return replace(wanted, key=hidden(wanted.key, keys), unit=hidden(wanted.unit, units))


def check_marks(workspace: Workspace, vault: Vault) -> None:
    """Refuse to go on where a field became private, or ceased to be, with rows of it stored already.

    Raises:
        StateError: their values are in the clear where pseudonyms should be, or the other way round, and nothing joins.
    """
    now = {f"{table}.{field.name}": field.entity for table, field in stored_fields(workspace.project)}
    marks = _marks(vault)
    changed = {name: entity for name, entity in now.items() if marks.get(name, "") != entity}
    if not changed:
        return
    stored = {_owner(name) for name, files in _everything(workspace).items() if files}
    faults = [
        Fault(
            "other_privacy",
            "what is stored of this field was stored when it was not private, or was another entity's",
            name,
            hint="restore its definition; or set the state folder aside, and take in again what may be kept",
        )
        for name in sorted(changed)
        if _column(name)[0] in stored
    ]
    if faults:
        raise StateError(*faults)
    vault.state(_MARKED, msgspec.json.encode(marks | changed, order="sorted").decode())


def _everything(workspace: Workspace) -> dict[str, list[StoredFile]]:
    """All that is stored of each table, be it for a snapshot alone."""
    return workspace.history.everything(workspace.compact())


def _owner(table: str) -> str:
    """The table whose fields the columns of a stored table are: declared questions have those of the answers."""
    model = table.removeprefix(f"{QUESTIONS}/")
    return table if model == table else f"{ANSWERS}/{model}"


def _marks(vault: Vault) -> dict[str, str]:
    """Stored column -> entity, of all that were ever private; columns stay when a field leaves the project."""
    return msgspec.json.decode(str(vault.fact(_MARKED) or "{}"), type=dict[str, str])


def _column(mark: str) -> tuple[str, str]:
    table, _, name = mark.rpartition(".")
    return table, name


class Forgetting:
    """Forgets entities of one project.

    Args:
        workspace: Where pseudonyms may stand.
        vault: What is destroyed.
        journal: Told of it.
        clock: Stamps the receipts.
    """

    def __init__(self, workspace: Workspace, vault: Vault, journal: Writer, clock: Clock) -> None:
        self._workspace, self._vault, self._journal, self._clock = workspace, vault, journal, clock
        self._marks = {name: entity for name, entity in _marks(vault).items() if entity}

    def forget(self, entity: str, value: str, *, by: str, reason: str) -> Receipt | None:
        """Forget who a value names; None where nothing is known of it (any more).

        What a crash left of an earlier call is finished too.

        Args:
            entity: What the private fields name: `customer`.
            value: As callers send it.
            by, reason: Who asked for it, and why, for the receipt.

        Raises:
            RequestError: there is no such entity, or no reason.
            StateError: the vault cannot be written; nothing is forgotten then.
            JournalError: it is forgotten, and the receipt is not finished; the next call does that.
        """
        known = set(self._marks.values())
        if entity not in known:
            what, hint = "no private field names such an entity", nearest(entity, known)
            raise RequestError(
                Fault("unknown_entity", what, "", shorten(entity), ", ".join(sorted(known)), hint)
            )
        if not reason.strip():
            raise RequestError(Fault("no_reason", "a reason is needed", "reason"))
        now = self._clock()
        receipt = self._vault.forget(entity, value, identifier=new_id(now), at=now, by=by, reason=reason)
        finished = [self._finished(one) for one in self._vault.receipts(finished=False)]
        return next((one for one in finished if receipt is not None and one.id == receipt.id), None)

    def _finished(self, receipt: Receipt) -> Receipt:
        time.sleep(2 * FOLLOW_S)  # until then another process may still write what it remembers
        counted = msgspec.structs.replace(
            receipt, found=self._found(receipt.pseudonym), not_held=self._not_held(receipt.entity)
        )
        counted = msgspec.structs.replace(counted, digest=receipt_digest(counted))
        self._journal.append(
            Forgotten(receipt.at, receipt.id, receipt.entity, receipt.pseudonym, receipt.by, receipt.reason)
        )
        self._vault.finish(counted)
        return counted

    def _found(self, pseudonym: str) -> dict[str, int]:
        """Stored table, or `journal` -> rows, or places, where a pseudonym stands."""
        history = self._workspace.history
        stored = Manifest(_everything(self._workspace))
        found = {}
        files = {name: history.paths(stored, name) for name in stored.tables}
        with connect(reads=[file for listed in files.values() for file in listed]) as connection:
            for name, listed in files.items():
                held = columns_of(connection, parquet(listed, union=True)) if listed else {}
                own = [column for table, column in map(_column, self._marks) if table == _owner(name)]
                conditions = [f"{quote(one)} = {literal(pseudonym)}" for one in own if one in held]
                if name.startswith(f"{QUARANTINE}/"):
                    conditions = [f"contains(CAST(row AS VARCHAR), {literal(pseudonym)})"]
                if not conditions or not held:
                    continue
                statement = (
                    f"SELECT count(*) FROM {parquet(listed, union=True)} WHERE {' OR '.join(conditions)}"
                )
                row = connection.execute(statement).fetchone()
                found[name] = int(row[0]) if row else 0
        folder = self._workspace.journal
        found["journal"] = sum(_places(path, pseudonym.encode()) for path in sorted(folder.glob("*.jnl")))
        return {name: count for name, count in found.items() if count}

    def _not_held(self, entity: str) -> list[str]:
        """What Icekeel reads or makes, and cannot clean."""
        project = self._workspace.project
        tables = {_column(name)[0] for name, one in self._marks.items() if one == entity}
        sources = [table.source for table in project.tables.values() if table.name in tables and table.source]
        sources += [
            model.history.source for model in project.models.values() if f"{ANSWERS}/{model.name}" in tables
        ]
        files = [
            f"{source}: your own file; taken in again, its value names somebody new"
            for source in dict.fromkeys(sources)
        ]
        return [*files, "back-ups of vault.db: with its key and the value, an old one leads to the pseudonym"]


def receipt_digest(receipt: Receipt) -> str:
    """SHA-256 of all of a receipt but its digest."""
    return digest(msgspec.json.encode(msgspec.structs.replace(receipt, digest=""), order="sorted"))


def named(argument: str) -> tuple[str, str]:
    """Entity and value of `customer=C0001`.

    Raises:
        ProjectError: there is no value.
    """
    entity, equals, value = argument.partition("=")
    if not equals or not value:
        raise ProjectError(
            Fault("bad_argument", "expected ENTITY=VALUE", got=shorten(argument), hint="customer=C0001")
        )
    return entity, value


def _places(path: Path, text: bytes) -> int:
    """How often some bytes stand in a file."""
    count, rest = 0, b""
    with path.open("rb") as file:
        while part := file.read(1 << 24):
            count += (rest + part).count(text)
            rest = part[-(len(text) - 1) :]
    return count
