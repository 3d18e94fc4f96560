"""Settings: what the environment may say, and what a bad value gets."""

import os
from pathlib import Path

import pytest

from worker.core.chunk_size import ChunkBounds
from worker.core.errors import SettingsError
from worker.core.pressure import Indicator
from worker.core.retry import RetryPolicy
from worker.core.settings import load_settings, misspelt_settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("WORKER_") or name in {"DATABASE_URL", "REDIS_URL"}:
            monkeypatch.delenv(name)


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
        ("WORKER_GOVERNOR", "locks,moon"),
        ("WORKER_MAX_CONNECTIONS_USED", "90"),
        ("WORKER_MAX_REPLICA_LAG_S", "0"),
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


@pytest.mark.parametrize(
    ("value", "looked_at"),
    [("off", ()), ("", ()), ("vacuum, locks", (Indicator.VACUUM, Indicator.LOCKS)), (None, tuple(Indicator))],
)
def test_the_governor_looks_at_what_it_is_told(
    monkeypatch: pytest.MonkeyPatch, value: str | None, looked_at: tuple[Indicator, ...]
) -> None:
    """At everything unless told, at some of it, or at nothing."""
    if value is not None:
        monkeypatch.setenv("WORKER_GOVERNOR", value)
    assert load_settings().governor == looked_at


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


BAD = {
    "WORKER_QUEUE": "",
    "WORKER_GRACE_S": "-1",
    "WORKER_POLL_S": "0",
    "WORKER_KEEP_RESULT_S": "0",
    "WORKER_CHUNK_TARGET_MS": "nan",
    "WORKER_CHUNK_START_ROWS": "0",
    "WORKER_CHUNK_MIN_ROWS": "0",
    "WORKER_CHUNK_MAX_ROWS": "1e3",
    "WORKER_LOCK_TIMEOUT_MS": "2s",
    "WORKER_STATEMENT_TIMEOUT_MS": "0",
    "WORKER_BACKOFF_BASE_S": "soon",
    "WORKER_BACKOFF_CAP_S": "0",
    "WORKER_MAX_CRASHES": "0",
    "WORKER_MAX_INLINE_BYTES": "0",
    "WORKER_MAX_PAYLOAD_BYTES": "1",
    "WORKER_MAX_ROW_BYTES": "1",
    "WORKER_MAX_DECOMPRESSED_BYTES": "1",
    "WORKER_LOG": "loud",
    "WORKER_LOG_LEVEL": "chatty",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_gets_one_line_that_ends_in_an_example(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The line starts with the variable and ends with how it could be set."""
    monkeypatch.setenv(name, BAD[name])
    with pytest.raises(SettingsError, match=rf"\A{name}: .+\. For example {name}=.+\Z"):
        load_settings()


@pytest.mark.parametrize("name", BAD)
def test_the_example_of_a_message_works(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whoever copies the example gets a worker that starts."""
    monkeypatch.setenv(name, BAD[name])
    with pytest.raises(SettingsError) as caught:
        load_settings()
    monkeypatch.setenv(name, str(caught.value).rpartition(f"{name}=")[2])
    assert load_settings().queue


def test_a_token_that_is_no_json_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message of a refused secret goes to a log, so the secret is not in it."""
    monkeypatch.setenv("WORKER_API_TOKENS", "hush")
    with pytest.raises(SettingsError, match="WORKER_API_TOKENS=") as caught:
        load_settings()
    assert "hush" not in str(caught.value)


def test_the_database_is_named_without_a_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """DATABASE_URL is what platforms set."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://localhost/app")
    url = load_settings().database_url
    assert url is not None
    assert url.get_secret_value() == "postgresql://localhost/app"


def test_without_servers_both_are_unset() -> None:
    """No address stands for the embedded servers."""
    settings = load_settings()
    assert (settings.database_url, settings.redis_url) == (None, None)


def test_what_a_caller_passes_stands_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command's flag wins over the variable."""
    monkeypatch.setenv("WORKER_CONCURRENCY", "3")
    assert load_settings(concurrency=7).concurrency == 7


@pytest.mark.parametrize("text", ["a,b", " a , b ", "a,,b,"])
def test_spaces_and_empty_parts_of_a_list_do_not_count(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A trailing comma is no module without a name."""
    monkeypatch.setenv("WORKER_MODELS", text)
    assert load_settings().models == ("a", "b")


def test_allowed_operations_are_read_by_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """WORKER_ALLOW is a JSON object of lists."""
    monkeypatch.setenv("WORKER_ALLOW", '{"orders": ["upsert", "update"], "audit": []}')
    assert load_settings().allow == {"orders": ("upsert", "update"), "audit": ()}


@pytest.mark.parametrize(("start", "first"), [("500", 500), ("1", 50), ("100000", 1000)])
def test_the_first_chunk_is_held_to_the_limits(monkeypatch: pytest.MonkeyPatch, start: str, first: int) -> None:
    """A first size outside of the limits becomes the nearest one inside."""
    monkeypatch.setenv("WORKER_CHUNK_MIN_ROWS", "50")
    monkeypatch.setenv("WORKER_CHUNK_MAX_ROWS", "1000")
    monkeypatch.setenv("WORKER_CHUNK_START_ROWS", start)
    monkeypatch.setenv("WORKER_CHUNK_TARGET_MS", "40")
    assert load_settings().chunk_bounds == ChunkBounds(start=first, least=50, most=1000, target_ms=40)


def test_the_fewest_rows_cannot_be_more_than_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both variables and both values are in the message."""
    monkeypatch.setenv("WORKER_CHUNK_MIN_ROWS", "20")
    monkeypatch.setenv("WORKER_CHUNK_MAX_ROWS", "10")
    with pytest.raises(SettingsError, match=r"WORKER_CHUNK_MIN_ROWS=20 .* WORKER_CHUNK_MAX_ROWS=10"):
        load_settings()


def test_equal_timeouts_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a lock timeout longer than the statement's is refused."""
    monkeypatch.setenv("WORKER_LOCK_TIMEOUT_MS", "15000")
    monkeypatch.setenv("WORKER_STATEMENT_TIMEOUT_MS", "15000")
    assert load_settings().lock_timeout_ms == 15_000


@pytest.mark.parametrize(("declared", "attempts"), [(None, 7), (2, 2)])
def test_a_job_without_attempts_of_its_own_has_the_settings(
    monkeypatch: pytest.MonkeyPatch, declared: int | None, attempts: int
) -> None:
    """What a job declares stands before WORKER_MAX_ATTEMPTS."""
    monkeypatch.setenv("WORKER_MAX_ATTEMPTS", "7")
    assert load_settings().retry_policy(declared) == RetryPolicy(attempts, base_s=1, cap_s=300)


def test_settings_that_are_read_are_not_told_as_misspelt() -> None:
    """Every name of the README's kind is known, and other programs' variables are none of our business."""
    assert misspelt_settings({"WORKER_LEASE_S": "5", "DATABASE_URL": "x", "WORKERS": "4"}) == []


def test_a_misspelling_without_a_neighbour_is_told_without_a_guess() -> None:
    """A far-off guess would mislead."""
    assert misspelt_settings({"WORKER_ZZZZZZZZZZZZ": "1"}) == ["WORKER_ZZZZZZZZZZZZ is not a setting"]
