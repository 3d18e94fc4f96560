"""Settings: what the environment may say, and what a bad value gets."""

from pathlib import Path

import pytest

from worker.core.errors import SettingsError
from worker.core.settings import load_settings, misspelt_settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "WORKER_LEASE_S"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKER_CONCURRENCY", "many"),
        ("WORKER_CONCURRENCY", "0"),
        ("WORKER_LEASE_S", "0.1"),
        ("WORKER_WIRE", "xml"),
        ("WORKER_ALLOW", "orders"),
        ("WORKER_PGBOUNCER", "perhaps"),
        ("WORKER_MAX_ATTEMPTS", "-1"),
    ],
)
def test_a_bad_value_names_its_setting_and_an_example(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """The start stops with the setting's name and a value that would work."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"{name}=") as caught:
        load_settings()
    assert "For example" in str(caught.value)


def test_every_bad_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to start three times to learn of three mistakes."""
    monkeypatch.setenv("WORKER_LEASE_S", "x")
    monkeypatch.setenv("WORKER_WIRE", "y")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert len(str(caught.value).splitlines()) == 2


def test_settings_that_cannot_go_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock timeout longer than the statement's would never be seen."""
    monkeypatch.setenv("WORKER_LOCK_TIMEOUT_MS", "20000")
    with pytest.raises(SettingsError, match="WORKER_STATEMENT_TIMEOUT_MS"):
        load_settings()


def test_lists_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and folders are separated by commas, folders by the system's separator too."""
    monkeypatch.setenv("WORKER_JOBS", "jobs, myapp.jobs")
    monkeypatch.setenv("WORKER_DATA_DIRS", "/data:/srv/in,/more")
    settings = load_settings()
    assert settings.jobs == ("jobs", "myapp.jobs")
    assert settings.data_dirs == (Path("/data"), Path("/srv/in"), Path("/more"))


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither text form of the settings has a password or a token in it."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hush@localhost/x")
    monkeypatch.setenv("WORKER_API_TOKENS", '["hush"]')
    settings = load_settings()
    assert "hush" not in f"{settings!r}{settings}"


def test_a_misspelt_setting_is_told() -> None:
    """A variable that nothing reads is named, with the one that was meant."""
    assert misspelt_settings({"WORKER_CONCURENCY": "5", "WORKER_LEASE_S": "5", "HOME": "/"}) == [
        "WORKER_CONCURENCY is not a setting; did you mean WORKER_CONCURRENCY?"
    ]


def test_an_idle_transaction_ends_before_the_lease() -> None:
    """A stalled client's locks cannot hold up the claim that follows the end of its lease."""
    settings = load_settings()
    assert settings.idle_timeout_ms < settings.lease_s * 1000
