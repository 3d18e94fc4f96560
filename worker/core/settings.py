"""Settings from the environment: names, units, defaults with their reasons. The only reader of the environment.

A bad value stops the start with the setting's name, what is wrong and an example.
"""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from worker.core.chunk_size import ChunkBounds
from worker.core.errors import SettingsError
from worker.core.pressure import Indicator, Limits
from worker.core.retry import RetryPolicy

Names = Annotated[tuple[str, ...], NoDecode]
Indicators = Annotated[tuple[Indicator, ...], NoDecode]
Folders = Annotated[tuple[Path, ...], NoDecode]

MIB = 1024 * 1024

OPERATIONS = ("read", "upsert", "update", "delete")
"""What WORKER_ALLOW may grant on a table, beside transfers."""

TRANSFER = "transfer:"
"""How a grant of transfers begins: the name of the money column follows."""


class Settings(BaseSettings):
    """One worker's, client's or command's settings. Frozen; passed in, never a global.

    Seconds end in `_s`, milliseconds in `_ms`, sizes in `_bytes` or `_rows`. Each field's example is what an error
    message shows.
    """

    model_config = SettingsConfigDict(env_prefix="WORKER_", frozen=True, extra="ignore", populate_by_name=True)

    database_url: SecretStr | None = Field(
        None,
        validation_alias="DATABASE_URL",
        description="the database, and where the ledger is; embedded where unset",
        examples=["postgresql+asyncpg://user:password@localhost/app"],
    )
    redis_url: SecretStr | None = Field(
        None,
        validation_alias="REDIS_URL",
        description="the queue; embedded where unset",
        examples=["redis://localhost:6379/0"],
    )

    concurrency: int = Field(
        10,
        ge=1,
        le=1000,
        description="runs at the same time in one worker; the pool has two connections a run and four to spare",
        examples=["10"],
    )
    queue: str = Field("arq:queue", min_length=1, description="arq's queue name", examples=["arq:queue"])
    wire: Literal["json", "pickle"] = Field(
        "json",
        description="what our own client writes: json, or pickle for tools that read only that",
        examples=["json"],
    )
    lease_s: float = Field(
        15.0, ge=1, le=600, description="how long a dead worker keeps a run from others", examples=["15"]
    )
    grace_s: float = Field(
        20.0,
        ge=0,
        le=3600,
        description="how long runs may take to reach a chunk boundary after SIGTERM",
        examples=["20"],
    )
    poll_s: float = Field(0.5, gt=0, le=60, description="how often the worker looks for work", examples=["0.5"])
    keep_result_s: float = Field(
        3600.0, gt=0, description="how long Redis keeps a result; the ledger keeps it longer", examples=["3600"]
    )

    chunk_target_ms: float = Field(
        100.0, gt=0, description="how long a chunk's transaction should take", examples=["100"]
    )
    chunk_start_rows: int = Field(500, ge=1, description="rows of the first chunk", examples=["500"])
    chunk_min_rows: int = Field(10, ge=1, description="fewest rows of a chunk", examples=["10"])
    chunk_max_rows: int = Field(20_000, ge=1, description="most rows of a chunk", examples=["20000"])
    lock_timeout_ms: int = Field(
        2_000, ge=1, description="how long a statement of a chunk waits for a lock", examples=["2000"]
    )
    statement_timeout_ms: int = Field(
        15_000, ge=1, description="how long a statement of a chunk may take", examples=["15000"]
    )

    governor: Indicators = Field(
        tuple(Indicator),
        description="what runs make way for between chunks: all of these, some, or `off`",
        examples=["locks,connections,vacuum,wal_archive,replicas"],
    )
    max_lock_waiters: int = Field(
        5,
        ge=1,
        description="sessions behind this worker's locks from which on runs wait; they slow down from the first",
        examples=["5"],
    )
    max_connections_used: float = Field(
        0.9,
        gt=0,
        le=1,
        description="share of the server's connections in use from which on runs wait; they slow down before",
        examples=["0.9"],
    )
    max_wal_backlog: int = Field(
        42,
        ge=1,
        description="WAL segments yet to be archived from which on runs wait",
        examples=["42"],
    )
    max_replica_lag_s: float = Field(
        10.0, gt=0, description="lag of the slowest replica from which on runs wait", examples=["10"]
    )

    max_attempts: int = Field(
        5, ge=1, description="attempts that may fail without a committed chunk between them", examples=["5"]
    )
    backoff_base_s: float = Field(
        1.0, gt=0, description="the longest pause before the second attempt; it doubles", examples=["1"]
    )
    backoff_cap_s: float = Field(300.0, gt=0, description="the longest pause before any attempt", examples=["300"])
    max_crashes: int = Field(
        10, ge=1, description="deaths of a worker in a row, without a chunk between, that fail a run", examples=["10"]
    )

    keep_runs_days: float = Field(
        30.0, gt=0, description="how long the job cleanup leaves finished runs in the ledger", examples=["30"]
    )
    keep_quarantine_days: float = Field(
        90.0, gt=0, description="how long the job cleanup leaves refused rows in quarantine", examples=["90"]
    )

    models: Names = Field((), description="modules whose SQLModel tables payloads may name", examples=["myapp.models"])
    jobs: Names = Field(("jobs",), description="modules that declare jobs", examples=["jobs,myapp.jobs"])
    reflect: Names = Field(
        (),
        description="existing tables without a model, read when a process starts",
        examples=["public.orders,public.items"],
    )
    allow: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="what may be done to which table; a table that it does not name allows all but transfers",
        examples=['{"orders": ["upsert", "update"], "account": ["transfer:balance"]}'],
    )
    data_dirs: Folders = Field(
        (Path(),),
        description="folders that files are read under, by their real paths",
        examples=["/data,/srv/incoming"],
    )
    output_dirs: Folders = Field(
        (Path("out"),),
        description="folders that files are written under, by their real paths",
        examples=["/data/out"],
    )
    uri_schemes: Names = Field(
        (), description="remote schemes that sources may have (not read yet)", examples=["s3,https"]
    )
    max_inline_bytes: int = Field(MIB, ge=1, description="of inline rows, as JSON", examples=["1048576"])
    max_payload_bytes: int = Field(
        4 * MIB, ge=1024, description="of a payload that our client writes", examples=["4194304"]
    )
    max_row_bytes: int = Field(MIB, ge=1024, description="of one row of a file", examples=["1048576"])
    max_decompressed_bytes: int = Field(
        64 * 1024 * MIB, ge=1024, description="of what a packed file may unpack to", examples=["68719476736"]
    )
    pgbouncer: bool = Field(
        False,
        description="whether a PgBouncer stands between: no statement is prepared for longer than a transaction",
        examples=["true"],
    )
    api_tokens: tuple[SecretStr, ...] = Field(
        (), description="of the HTTP API (not there yet)", examples=['["a-long-random-token"]']
    )
    log: Literal["console", "json"] = Field(
        "console", description="console for people, json for machines", examples=["json"]
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        description="from which level on lines are written: debug has one a chunk, info two an attempt",
        examples=["warning"],
    )

    @field_validator("models", "jobs", "reflect", "uri_schemes", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("allow")
    @classmethod
    def _check_operations(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for table, operations in value.items():
            for operation in operations:
                column = operation.removeprefix(TRANSFER) if operation.startswith(TRANSFER) else ""
                if operation not in OPERATIONS and not column:
                    raise ValueError(
                        f"table {table!r}: no operation is called {operation!r}; there are {', '.join(OPERATIONS)} and "
                        f"{TRANSFER}<money column>"
                    )
        return value

    @field_validator("governor", mode="before")
    @classmethod
    def _split_indicators(cls, value: object) -> object:
        return () if value == "off" else cls._split_names(value)

    @field_validator("data_dirs", "output_dirs", mode="before")
    @classmethod
    def _split_folders(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(Path(part.strip()) for part in value.replace(os.pathsep, ",").split(",") if part.strip())

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if not self.chunk_min_rows <= self.chunk_max_rows:
            raise ValueError(
                f"WORKER_CHUNK_MIN_ROWS={self.chunk_min_rows} is more than WORKER_CHUNK_MAX_ROWS={self.chunk_max_rows}"
            )
        if self.lock_timeout_ms > self.statement_timeout_ms:
            raise ValueError(
                f"WORKER_LOCK_TIMEOUT_MS={self.lock_timeout_ms} is more than WORKER_STATEMENT_TIMEOUT_MS="
                f"{self.statement_timeout_ms}, so a lock would never be seen to time out"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment and what a caller passes, nothing else: no file is read behind anybody's back."""
        del settings_cls, dotenv_settings, file_secret_settings
        return init_settings, env_settings

    @property
    def idle_timeout_ms(self) -> int:
        """How long a transaction may sit idle: less than the lease, so that a stalled worker cannot hold up a claim."""
        return int(self.lease_s * 1000 * 0.8)

    @property
    def snapshot_idle_ms(self) -> int:
        """How long a stream's snapshot may sit idle while a chunk is written: ten leases.

        Long beside any chunk. Not endless, because what a stalled worker's snapshot sees cannot be vacuumed away.
        """
        return int(self.lease_s * 10_000)

    @property
    def chunk_bounds(self) -> ChunkBounds:
        """The limits of a chunk's size."""
        start = max(self.chunk_min_rows, min(self.chunk_max_rows, self.chunk_start_rows))
        return ChunkBounds(start, self.chunk_min_rows, self.chunk_max_rows, self.chunk_target_ms)

    @property
    def limits(self) -> Limits:
        """Where the governor makes runs wait."""
        return Limits(self.max_lock_waiters, self.max_connections_used, self.max_wal_backlog, self.max_replica_lag_s)

    def retry_policy(self, max_attempts: int | None) -> RetryPolicy:
        """The policy of a job that declares `max_attempts`, or none of its own."""
        return RetryPolicy(max_attempts or self.max_attempts, self.backoff_base_s, self.backoff_cap_s)


def load_settings(**overrides: object) -> Settings:
    """The settings of this process.

    Args:
        overrides: values by field name that stand before the environment's (what a command's flags say).

    Raises:
        SettingsError: a value cannot work; the message names every one that cannot.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # pydantic validates what mypy cannot know
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(problem["loc"], problem["msg"]) for problem in error.errors())) from None
    except ValueError as error:
        # pydantic-settings wraps a value that is no JSON in a ValueError naming the field
        raise SettingsError(f"{error}. {_example_for(str(error))}".strip()) from None


def misspelt_settings(environment: Mapping[str, str] | None = None) -> list[str]:
    """One line for each WORKER_ variable that no setting reads: most are typing mistakes.

    Args:
        environment: the process's own unless given.
    """
    known = {_variable(name) for name in Settings.model_fields}
    lines = []
    for name in sorted(os.environ if environment is None else environment):
        if name.startswith("WORKER_") and name not in known:
            near = get_close_matches(name, known, n=1)
            lines.append(f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else ""))
    return lines


def _variable(field: str) -> str:
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else f"WORKER_{field.upper()}"


def _explain(location: tuple[int | str, ...], message: str) -> str:
    if not location:
        return message.removeprefix("Value error, ")
    named = str(location[0])
    field = next((name for name in Settings.model_fields if named in {name, _variable(name)}), None)
    if field is None:
        return f"{named}: {message}"
    examples = Settings.model_fields[field].examples or [""]
    return f"{_variable(field)}: {message.removeprefix('Value error, ')}. For example {_variable(field)}={examples[0]}"


def _example_for(text: str) -> str:
    for name, field in Settings.model_fields.items():
        if f'"{name}"' in text:
            return f"For example {_variable(name)}={(field.examples or [''])[0]}"
    return ""
