from __future__ import annotations

from pathlib import Path

import pytest

from icekeel.core.errors import AuthError, StateError
from icekeel.serving import Access


def code(access: Access, header: str | None, scope: str) -> str:
    with pytest.raises(AuthError) as caught:
        access.check(header, scope)
    return caught.value.code


def test_a_token_opens_its_scopes_and_admin_all(tmp_path: Path) -> None:
    access = Access(tmp_path / "tokens.json")
    reader, admin = access.create("reader", ("read", "outcome")), access.create("root", ("admin",))
    access.check(f"Bearer {reader}", "read")
    access.check(f"Bearer {admin}", "ingest")
    assert code(access, f"Bearer {reader}", "admin") == "wrong_scope"
    assert code(access, f"Bearer {reader}x", "read") == "wrong_token"
    assert code(access, "Bearer é\udcff", "read") == "wrong_token"
    assert [code(access, header, "read") for header in (None, "", f"Basic {reader}")] == ["no_token"] * 3


def test_only_hashes_are_kept_and_only_the_owner_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "state" / "tokens.json"
    token = Access(path).create("reader", ("read",))
    assert token[3:] not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


def test_a_token_made_elsewhere_counts_after_a_refresh_and_a_replaced_one_no_more(tmp_path: Path) -> None:
    access = Access(tmp_path / "tokens.json")
    first = Access(tmp_path / "tokens.json").create("reader", ("read",))
    assert code(access, f"Bearer {first}", "read") == "wrong_token"
    access.refresh()
    access.check(f"Bearer {first}", "read")
    second = Access(tmp_path / "tokens.json").create("reader", ("read",))
    access.refresh()
    access.check(f"Bearer {second}", "read")
    assert code(access, f"Bearer {first}", "read") == "wrong_token"


def test_an_unknown_scope_makes_no_token(tmp_path: Path) -> None:
    with pytest.raises(AuthError) as caught:
        Access(tmp_path / "tokens.json").create("x", ("read", "write"))
    assert (caught.value.code, caught.value.faults[0].got) == ("unknown_scope", "write")
    assert not (tmp_path / "tokens.json").exists()


def test_a_damaged_file_is_told_and_known_tokens_stay(tmp_path: Path) -> None:
    access = Access(tmp_path / "tokens.json")
    token = access.create("reader", ("read",))
    (tmp_path / "tokens.json").write_text("{")
    with pytest.raises(StateError, match=r"tokens\.json"):
        access.refresh()
    access.check(f"Bearer {token}", "read")


def test_a_revoked_token_opens_nothing_and_the_others_stay(tmp_path: Path) -> None:
    access = Access(tmp_path / "tokens.json")
    gone, kept = access.create("ann", ("read",)), access.create("bob", ("predict", "read"))
    assert access.check(f"Bearer {kept}", "read") == "bob"
    Access(tmp_path / "tokens.json").revoke("ann")
    access.refresh()
    assert code(access, f"Bearer {gone}", "read") == "wrong_token"
    assert access.check(f"Bearer {kept}", "read") == "bob"
    assert access.named() == {"bob": ["predict", "read"]}
    with pytest.raises(AuthError) as caught:
        access.revoke("bobb")
    assert (caught.value.code, caught.value.faults[0].hint) == ("unknown_token", 'did you mean "bob"?')
