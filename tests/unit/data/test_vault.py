from __future__ import annotations

import multiprocessing
import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from icekeel.core.errors import StateError
from icekeel.data import Vault
from icekeel.data.vault import FOLLOW_S

NAME = "Ada Lovelace of St James's Square"


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    vault = Vault(tmp_path / "state")
    yield vault
    vault.close()


def forget(vault: Vault, value: str = NAME) -> bool:
    gone = vault.forget("customer", value, identifier="r", at=7, by="ann", reason="asked for")
    return gone is not None


def files(vault: Vault) -> bytes:
    return b"".join(path.read_bytes() for path in vault.path.parent.glob("vault.db*"))


def test_a_value_has_one_pseudonym_that_says_nothing_of_it(vault: Vault) -> None:
    hidden = vault.hide("customer", NAME)
    assert (
        vault.hide("customer", NAME) == vault.seek("customer", NAME) == vault.find("customer", NAME) == hidden
    )
    assert NAME not in hidden
    assert len(hidden) == 22  # 128 random bits
    assert vault.hide("supplier", NAME) != hidden
    assert vault.hide_many("customer", [NAME, "b", NAME])[NAME] == hidden


def test_seeking_makes_nothing(vault: Vault) -> None:
    stranger = vault.seek("customer", NAME)
    assert stranger.startswith("?")
    assert stranger == vault.seek("customer", NAME)
    assert vault.find("customer", NAME) is None
    assert vault.hide("customer", NAME) != stranger


def test_it_outlives_the_process_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        first = Vault(tmp_path / "state")
        hidden = first.hide("customer", NAME)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").iterdir()}
        first.close()
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("vault.db", "vault.db-wal", "vault.db-shm", "vault.key"), 0o600)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    again = Vault(tmp_path / "state")
    assert again.hide("customer", NAME) == hidden
    again.close()


def test_what_is_forgotten_is_in_no_byte_of_its_file(vault: Vault) -> None:
    others = vault.hide_many("customer", (f"c{number}" for number in range(500)))
    hidden = vault.hide("customer", NAME)
    mac = vault._mac("customer", NAME)
    assert mac in files(vault)
    assert forget(vault)
    assert mac not in files(vault)
    assert NAME.encode() not in files(vault)
    assert vault.find("customer", NAME) is None
    assert not forget(vault)
    assert vault.hide("customer", NAME) not in (hidden, *others.values())
    assert vault.hide_many("customer", others) == others
    (receipt,) = vault.receipts(finished=False)
    assert (receipt.pseudonym, receipt.by, receipt.reason) == (hidden, "ann", "asked for")
    vault.finish(receipt)
    assert vault.receipts(finished=False) == []
    assert vault.receipts(finished=True) == [receipt]


def test_other_processes_notice_within_a_moment(vault: Vault) -> None:
    other = Vault(vault.path.parent)
    hidden = other.hide("customer", NAME)
    assert forget(vault)
    time.sleep(FOLLOW_S)
    assert other.hide("customer", NAME) != hidden
    other.close()


def _meet(
    folder: Path, start: multiprocessing.synchronize.Barrier, said: multiprocessing.Queue[list[str]]
) -> None:
    vault = Vault(folder)
    start.wait()
    said.put([vault.hide("customer", f"c{number}") for number in range(200)])
    vault.close()


def test_processes_that_meet_a_value_at_once_agree(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, said = context.Barrier(3), context.Queue()
    workers = [context.Process(target=_meet, args=(tmp_path, start, said)) for _ in range(3)]
    for worker in workers:
        worker.start()
    found = [said.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert found[0] == found[1] == found[2]


KILLED = """
import os, sys
from pathlib import Path
from icekeel.data import Vault
vault = Vault(Path(sys.argv[1]))
for number in range(10**9):
    os.write(1, f"c{number} {vault.hide('customer', f'c{number}')}\\n".encode())
"""


def test_a_pseudonym_that_was_given_survives_kill_9(tmp_path: Path) -> None:
    for seconds in (0.05, 0.2):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        time.sleep(seconds)
        process.kill()
        lines += process.communicate()[0].splitlines()[:-1]
        vault = Vault(tmp_path)
        assert len(lines) > 10
        for line in lines:
            value, hidden = line.decode().split()
            assert vault.find("customer", value) == hidden
        vault.close()


@pytest.mark.parametrize(
    ("lost", "code"), [("vault.db", "no_vault"), ("vault.key", "no_vault_key"), ("", "wrong_vault_key")]
)
def test_half_a_vault_is_refused(tmp_path: Path, lost: str, code: str) -> None:
    vault = Vault(tmp_path)
    vault.hide("customer", NAME)
    vault.close()
    if lost:
        (tmp_path / lost).unlink()
    with pytest.raises(StateError) as caught:
        Vault(tmp_path, "" if lost else "another key that is long enough, is it not")
    assert caught.value.code == code


def test_a_damaged_vault_is_refused(tmp_path: Path) -> None:
    Vault(tmp_path).close()
    (tmp_path / "vault.db").write_bytes(b"no database" * 1_000)
    with pytest.raises(StateError) as caught:
        Vault(tmp_path)
    assert caught.value.code == "vault_unusable"


def test_a_process_that_died_before_the_key_was_made_does_not_block_the_next(tmp_path: Path) -> None:
    (tmp_path / "vault.db").touch()
    Vault(tmp_path).close()


def test_a_key_of_ones_own(tmp_path: Path) -> None:
    with pytest.raises(StateError) as caught:
        Vault(tmp_path, "short")
    assert caught.value.code == "bad_vault_key"
    vault = Vault(tmp_path, "k" * 32)
    vault.hide("customer", NAME)
    vault.close()
    assert not (tmp_path / "vault.key").exists()


def test_the_vault_can_be_full(vault: Vault) -> None:
    known = vault.hide("customer", NAME)
    pages = vault._connection.execute("PRAGMA page_count").fetchone()[0]
    vault._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StateError) as caught:
        vault.hide_many("customer", (f"c{number}" for number in range(5_000)))
    assert caught.value.code == "vault_unusable"
    assert vault.find("customer", "c0") is None
    assert vault.hide("customer", NAME) == known
    with sqlite3.connect(vault.path) as other:
        assert other.execute("SELECT count(*) FROM entities").fetchone() == (1,)
    other.close()
    vault._connection.execute("PRAGMA max_page_count = 100000")
    assert vault.hide("customer", "c0")


def test_what_a_crash_left_in_the_log_is_gone_when_the_vault_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = Vault(tmp_path)
    vault.hide("customer", NAME)
    mac = vault._mac("customer", NAME)
    monkeypatch.setattr(vault, "_purge", lambda: None)  # killed between the two
    assert forget(vault)
    assert mac in files(vault)
    again = Vault(tmp_path)
    assert mac not in files(vault)
    again.close()
    vault.close()
