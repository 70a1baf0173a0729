"""A file as parts: so many bytes of text, or rows of Parquet, that each fits into memory and can be taken alone.

Text is cut here and not by the database, which reads a file as a whole or not at all: its lines that are no rows
(ragged, not UTF-8, a quote that is never closed) are found, kept as they came, and cost nobody else his place. Almost
every part has none; then no line of it is looked at in Python.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from icekeel.core.errors import Fault, SourceError
from icekeel.define.fields import Field

from .relations import connect, one_row, parquet

PART_BYTES = 32 << 20
PART_ROWS = 1 << 19
LONGEST_RECORD = 1 << 20
"""Bytes that one record of a text may have; a quote that is open for longer was never closed."""
_DELIMITERS = ",;\t|"
_FORMATS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
}
LINE_MARK = b"\x01"
"""A byte that stands in no JSON: told to be what separates columns, it makes each line one."""
BLANK = b" \r"
"""What a line of JSON lines may hold and be none."""
ARRAY_BYTES = 256 << 20
"""A JSON array is read as a whole: it may have so many bytes."""
Spoilt = tuple[str, str]
"""A line that is no row, as it came, and why."""
Mended = tuple[bytes, list[Spoilt], list[int]]
"""Rows without doubt, the lines that are none, and where each began: first those of the rows, in lines from 1."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a file, as they came.

    Attributes:
        form: `csv`, `json` or `parquet`.
        text: Of a file of text: the lines.
        after: Where the next part begins; empty where this is the last one.
        names: Columns of a CSV file.
        delimiter: What stands between them.
        rows: First and one behind the last row of a Parquet file.
        before: Lines, or rows, that come before it in the file; None where there is none.
    """

    form: str
    text: bytes
    after: str
    names: tuple[str, ...] = ()
    delimiter: str = ","
    rows: tuple[int, int] = (0, 0)
    before: int | None = None


def form_of(path: Path) -> str:
    """`csv`, `json` or `parquet`, by the ending; text may be packed: `.csv.gz`.

    Raises:
        SourceError: another ending.
    """
    packed = path.suffix.lower() == ".gz"
    form = _FORMATS.get((Path(path.stem) if packed else path).suffix.lower(), "")
    if not form or (packed and form == "parquet"):
        allowed = ", ".join([*_FORMATS, *(f"{end}.gz" for end, one in _FORMATS.items() if one != "parquet")])
        raise SourceError(
            Fault("unknown_format", "unknown kind of file", str(path), "".join(path.suffixes), allowed)
        )
    return form


def parts_of(path: Path, name: str, fields: Collection[Field], begin: str = "") -> Iterator[Part]:
    """The parts of a file from a place on; one part, perhaps of no row, at the least.

    Args:
        name: How faults name it.
        fields: Declared columns, by which the header of a CSV file is read.
        begin: `after` of the part before; empty for the first.

    Raises:
        SourceError: it cannot be read, from there on.
    """
    form = form_of(path)
    if form == "parquet":
        yield from _row_groups(path, int(begin or 0))
        return
    try:
        with ExitStack() as stack:
            file = stack.enter_context(_opened(path, name, begin))
            head, names, delimiter = b"", tuple[str, ...](), ""
            if form == "csv":
                head = file.readline(LONGEST_RECORD)
                names, delimiter = _header(head, name, fields)
            elif path.suffix.lower() == ".json" and file.read(1 << 10).lstrip()[:1] == b"[":
                file.seek(0)
                file = _elements(file, name)
            before = _lines(file, int(begin)) if begin else len(head.splitlines())
            for block, after in _blocks(file, int(begin or len(head))):
                yield Part(form, block, str(after or ""), names, delimiter, before=before)
                before += block.count(b"\n")
    except (OSError, EOFError) as error:
        what = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise SourceError(Fault("unreadable", what, name)) from error


def _row_groups(path: Path, begin: int) -> Iterator[Part]:
    with connect(reads=[path]) as connection:
        (total,) = one_row(connection, f"SELECT count(*) FROM {parquet([path])}")
    while True:
        end = min(begin + PART_ROWS, total)
        yield Part("parquet", b"", str(end) if end < total else "", rows=(begin, end), before=begin)
        if end == total:
            return
        begin = end


def _opened(path: Path, name: str, begin: str) -> BinaryIO:
    """The text of a file. A packed one is read to its end first: what is cut off shows only there."""
    if path.suffix.lower() == ".gz":
        with gzip.open(path) as packed:
            while not begin and packed.read(1 << 24):
                pass
        file = cast(BinaryIO, gzip.open(path))  # noqa: SIM115
    else:
        file = path.open("rb")
    head = file.read(2)
    file.seek(0)
    if not head or head in (b"\xff\xfe", b"\xfe\xff"):
        file.close()
        code, what = ("unreadable", "UTF-16 is not read") if head else ("empty_file", "the file is empty")
        raise SourceError(Fault(code, what, name, allowed="UTF-8 text"))
    return file


def _lines(file: BinaryIO, end: int) -> int:
    """Lines before a place."""
    file.seek(0)
    count = 0
    while part := file.read(min(1 << 24, end - file.tell())):
        count += part.count(b"\n")
    return count


def _elements(file: BinaryIO, name: str) -> BinaryIO:
    """The elements of a JSON array as lines."""
    text = file.read(ARRAY_BYTES + 1)
    file.close()
    if len(text) > ARRAY_BYTES:
        what = f"a JSON array of more than {ARRAY_BYTES >> 20} MB"
        raise SourceError(Fault("too_large", what, name, allowed="JSON lines of any size"))
    try:
        listed = msgspec.json.decode(text, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SourceError(Fault("unreadable", str(error), name)) from error
    return io.BytesIO(b"\n".join(bytes(one).replace(b"\n", b" ") for one in listed))


def _blocks(file: BinaryIO, begin: int) -> Iterator[tuple[bytes, int]]:
    """Whole lines, about `PART_BYTES` of them, and where the next ones begin, 0 behind the last."""
    file.seek(begin)
    rest = b""
    while True:
        block = rest + file.read(PART_BYTES + 1 - len(rest))
        if len(block) <= PART_BYTES:
            yield block, 0
            return
        cut = _cut(block)
        begin += cut
        yield block[:cut], begin
        rest = block[cut:]


def _cut(block: bytes) -> int:
    """Where a line ends, at best one behind which no quote is open."""
    last = end = block.rfind(b"\n") + 1
    quotes = block.count(b'"', 0, end)
    while quotes % 2 and end > last - LONGEST_RECORD and (before := block.rfind(b"\n", 0, end - 1) + 1):
        quotes -= block.count(b'"', before, end)
        end = before
    return (last if quotes % 2 else end) or len(block)


def _header(head: bytes, name: str, fields: Collection[Field]) -> tuple[tuple[str, ...], str]:
    """The names in the first line, and what stands between them: by whatever most declared names are found."""
    try:
        text = head.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        fault = Fault("unreadable", "the header is not UTF-8", f"{name}, line 1", as_text(head))
        raise SourceError(fault) from error
    declared = {field.name for field in fields}
    split = {one: next(csv.reader([text], delimiter=one), [""]) for one in _DELIMITERS}
    delimiter = max(split, key=lambda one: (len(declared.intersection(split[one])), len(split[one])))
    names = split[delimiter]
    if twice := sorted({one for one in names if one in declared and names.count(one) > 1}):
        what = 'two columns are called "{}"'
        raise SourceError(*(Fault("twice", what.format(one), f"{name}, line 1") for one in twice))
    return tuple(names), delimiter


def as_text(line: bytes) -> str:
    """A line of bytes as text that gives them back: what is no UTF-8 as `\\xff`."""
    return line.decode("utf-8", errors="backslashreplace").rstrip("\r\n")


def is_utf8(block: bytes) -> bool:
    """Whether bytes are a text."""
    try:
        return block.isascii() or bool(block.decode())
    except UnicodeDecodeError:
        return False


def mended_csv(block: bytes, columns: int, delimiter: str) -> Mended:
    """The rows of a block of CSV, written so that there is no doubt about them, and the lines that are none."""
    lines, spoilt, at = block.splitlines(keepends=True), list[Spoilt](), 0
    places, others = list[int](), list[int]()
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
    limit = csv.field_size_limit(LONGEST_RECORD)
    try:
        while at < len(lines):
            texts = (line.decode("utf-8", errors="surrogateescape") for line in lines[at:])
            reader, begun = csv.reader(texts, delimiter=delimiter, strict=True), at
            try:
                for row in reader:
                    record, first = lines[at : begun + reader.line_num], at + 1
                    at = begun + reader.line_num
                    if row and (why := _why(row, record, columns)):
                        spoilt.append((as_text(b"".join(record)), why))
                        others.append(first)
                    elif row:
                        places.append(first)
                        writer.writerow(row[:columns])
            except csv.Error:  # a quote that is not closed, or closed too early: the next line is another's
                spoilt.append((as_text(lines[at]), "line: quotes that do not match"))
                at += 1
                others.append(at)
    finally:
        csv.field_size_limit(limit)
    return file.getvalue().encode(), spoilt, places + others


def _why(row: Sequence[str], record: Sequence[bytes], columns: int) -> str:
    if not all(map(is_utf8, record)):
        return "line: not UTF-8"
    if sum(map(len, record)) > LONGEST_RECORD:
        return "line: longer than 1 MB"
    if len(row) == columns or (len(row) == columns + 1 and not row[-1]):
        return ""
    return f"line: {'more' if len(row) > columns else 'fewer'} columns than the header"


def mended_lines(block: bytes) -> Mended:
    """The lines of a block that are texts, and those that are not."""
    good, spoilt, places, others = [], list[Spoilt](), list[int](), list[int]()
    for place, line in enumerate(block.split(b"\n"), 1):
        if not line.strip(BLANK):
            continue
        if is_utf8(line) and len(line) <= LONGEST_RECORD and LINE_MARK not in line:
            good.append(line)
            places.append(place)
        else:
            why = "not UTF-8" if not is_utf8(line) else "no JSON object"
            spoilt.append((as_text(line), f"line: {why}"))
            others.append(place)
    return b"\n".join(good), spoilt, places + others
