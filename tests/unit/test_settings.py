from __future__ import annotations

from pathlib import Path

import pytest

from icekeel.core.errors import SettingsError
from icekeel.settings import Settings, load_settings, pace, read_settings

KEY = "a secret of thirty-two characters!"


def test_a_secret_comes_from_the_environment_and_is_not_shown(tmp_path: Path) -> None:
    found = {one.name: one for one in read_settings(tmp_path, {}, {"ICEKEEL_VAULT_KEY": KEY})}
    assert (found["vault_key"].value, found["vault_key"].shown) == (KEY, "(secret)")
    assert (found["port"].value, found["port"].shown) == (8000, 8000)
    assert KEY not in repr(Settings(vault_key=KEY))


def test_a_secret_in_a_file_or_a_flag_is_refused_and_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "icekeel.toml").write_text(f'vault_key = "{KEY}"\n')
    for flags in ({}, {"vault_key": KEY}):
        with pytest.raises(SettingsError) as caught:
            load_settings(tmp_path, flags)
        assert {fault.code for fault in caught.value.faults} == {"secret_setting"}
        assert KEY not in str(caught.value)


def test_how_often_is_a_duration_or_never_and_a_limit_always_a_duration(tmp_path: Path) -> None:
    never = {"ingest_every": "never", "audit_every": "never", "backup_every": "never"}
    found = load_settings(tmp_path, never)
    assert (pace(found.ingest_every), pace("15m")) == (0, 900_000_000)
    for name, value in (("ingest_every", "often"), ("audit_every", 5), ("longest_run", "never")):
        with pytest.raises(SettingsError) as caught:
            load_settings(tmp_path, {name: value})
        (fault,) = caught.value.faults
        assert (fault.code, name in fault.what) == ("bad_setting", True)
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path, {"ingest_evry": "5m"})
    assert (caught.value.faults[0].code, caught.value.faults[0].hint) == (
        "unknown_setting", 'did you mean "ingest_every"?'
    )  # fmt: skip


@pytest.mark.parametrize(
    "address", ["https://ann:p/ss@hooks.example.com/x", "https://ann:p#ss@hooks.example.com", "https://:80/x"]
)
def test_an_address_whose_password_would_be_lost_is_refused_and_not_repeated(
    tmp_path: Path, address: str
) -> None:
    for value in (address, {"url": address}):
        with pytest.raises(SettingsError) as caught:
            load_settings(tmp_path, {"notify": value})
        assert (caught.value.code, address in str(caught.value)) == ("bad_setting", False)


@pytest.mark.parametrize(
    "address",
    ["https://ann:p%2Fss@hooks.example.com/x", "https://ann:${PASSWORD}@${HOST}:${PORT}/x", "slack://a/b/c"],
)
def test_passwords_of_addresses_are_not_shown(tmp_path: Path, address: str) -> None:
    (setting,) = (one for one in read_settings(tmp_path, {"notify": address}) if one.name == "notify")
    assert setting.value == address
    shown = f"{setting.shown} {Settings(notify=address)}"
    assert not any(part in shown for part in ("ann", "p%2Fss", "PASSWORD", "a/b/c"))
    assert ("hooks.example.com" in shown) == ("hooks.example.com" in address)
