"""Folders that hold all that serving needs of one version, named and checked by what is in them.

`<root>/<first 16 characters of the digest>/` holds the files and `manifest.json` with the SHA-256 of each. The
digest of a bundle is that of its manifest, so one digest, held by the registry, vouches for every byte.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from icekeel.core.errors import BundleError, Fault
from icekeel.core.files import sync, write_whole
from icekeel.core.ids import digest as sha256

FORMAT = 1
MANIFEST = "manifest.json"
OLD_S = 86_400.0
"""Age at which a draft is nobody's any more."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


class _Manifest(msgspec.Struct, frozen=True):
    format: int
    files: dict[str, str]
    meta: dict[str, Any]  # free for those who write and read bundles


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle as it was written or as it was read and found whole.

    Attributes:
        digest: SHA-256 of the manifest, 64 hexadecimal characters.
        files: Name -> bytes.
        meta: What else the manifest says, as JSON values.
    """

    digest: str
    path: Path
    files: Mapping[str, bytes]
    meta: Mapping[str, Any]


def write(root: Path, files: Mapping[str, bytes], meta: Mapping[str, Any]) -> Bundle:
    """The bundle of these files and this meta, on disk when this returns.

    The same files and meta give the same digest. The folder appears whole or not at all; one that is already
    there is left as it is if it is whole, and replaced if it is damaged.

    Raises:
        BundleError: a file's name is not a plain file name.
    """
    faults = [
        Fault("bad_name", "expected a plain file name", MANIFEST, name, "letters, digits, `_`, `-`, `.`")
        for name in files
        if name == MANIFEST or not _NAME.fullmatch(name)
    ]
    if faults:
        raise BundleError(*faults)
    digests = {name: sha256(data) for name, data in files.items()}
    manifest = msgspec.json.encode(_Manifest(FORMAT, digests, dict(meta)), order="deterministic")
    digest = sha256(manifest)
    try:
        return read(root, digest)
    except BundleError:
        root.mkdir(parents=True, exist_ok=True)
        for left in root.glob(".new-*"):  # by writers that were killed
            if time.time() - left.stat().st_mtime > OLD_S:
                shutil.rmtree(left, ignore_errors=True)
        _place({**files, MANIFEST: manifest}, _folder(root, digest))
        return read(root, digest)


def read(root: Path, digest: str, *, but: Sequence[str] = (), only: Sequence[str] = ()) -> Bundle:
    """The bundle with this digest, every byte given checked against it.

    Args:
        but: Files that must be there and are not read: large ones that are needed later or never.
        only: The only files that are read, if any are named.

    Raises:
        BundleError: the bundle is missing or of another format, or files of it are missing, changed or extra;
            one fault for each.
    """
    folder = _folder(root, digest)
    if not folder.is_dir():
        raise BundleError(_fault("missing", "the bundle is missing", folder))
    manifest = _manifest(folder, digest)
    found = {path.name: path for path in folder.iterdir() if path.name != MANIFEST}
    present = [name for name in manifest.files if name in found and found[name].is_file()]
    files = {
        name: found[name].read_bytes() for name in present if name not in but and (not only or name in only)
    }
    faults = [
        *(
            _fault("missing", "a file is missing", folder / name)
            for name in manifest.files
            if name not in present
        ),
        *(
            _fault("changed", "a file has changed", folder / name)
            for name, data in files.items()
            if sha256(data) != manifest.files[name]
        ),
        *(
            _fault("extra", "a file does not belong here", path)
            for path in found.values()
            if path.name not in present
        ),
    ]
    if faults:
        raise BundleError(*faults)
    return Bundle(digest, folder, files, manifest.meta)


def _folder(root: Path, digest: str) -> Path:
    return root / digest[:16]


def _manifest(folder: Path, digest: str) -> _Manifest:
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(_fault("missing", "a file is missing", path))
    data = path.read_bytes()
    if sha256(data) != digest:
        raise BundleError(_fault("changed", "a file has changed", path))
    try:
        version = msgspec.json.decode(data)["format"]
        if version == FORMAT:
            return msgspec.json.decode(data, type=_Manifest)
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise BundleError(_fault("bad_format", "this is no manifest", path)) from error
    raise BundleError(
        Fault("bad_format", "a bundle of another format", str(path), str(version), str(FORMAT), _MEND)
    )


def _place(files: Mapping[str, bytes], folder: Path) -> None:
    """Puts a whole folder in place of nothing or of a damaged one; of two writers at once either may win."""
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder.parent) as temporary:
        fresh = Path(temporary) / "fresh"
        fresh.mkdir()
        for name, data in files.items():
            write_whole(fresh / name, data)
        try:
            if folder.exists():
                folder.rename(Path(temporary) / "damaged")
            fresh.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
        sync(folder.parent)


_MEND = "roll back, or train the version again"


def _fault(code: str, what: str, path: Path) -> Fault:
    return Fault(code, what, str(path), hint=_MEND)
