"""The job parameter `source`: where a job's rows are, and the bounds that a source is read under.

Owns what may be asked for and how large an inline source may be. Refuses to open anything.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, JsonValue, model_validator

from worker.core.errors import PayloadError

MIB: Final = 1024 * 1024

FileFormat = Literal["csv", "ndjson"]

_EXAMPLE: Final = '{"uri": "file:///data/orders.csv"}'


class SourceSpec(BaseModel, extra="forbid", frozen=True):
    """A source of rows: exactly one of `rows`, `uri` and `table`.

    Attributes:
        rows: the rows themselves, each an object by column name.
        uri: a file, as `file:///data/orders.csv.gz` or as a path; a relative path is looked up in each of the data
            folders in turn.
        format: what the file holds; None infers it from the file's name.
        table: the name of a registered table to read.
        quarantine: the id of a run of the same job, whose refused rows are tried again. What a replay makes
            (`heavylift quarantine ID --replay`), rather than a person.
    """

    rows: list[dict[str, JsonValue]] | None = None
    uri: str | None = None
    format: FileFormat | None = None
    table: str | None = None
    quarantine: str | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in ("rows", "uri", "table", "quarantine") if getattr(self, name) is not None]
        if not given:
            raise ValueError(f"a source needs one of rows, uri or table, and none was given; for example {_EXAMPLE}")
        if len(given) > 1:
            raise ValueError(f"a source is one of rows, uri or table, and {' and '.join(given)} were given; keep one")
        if self.format is not None and self.uri is None:
            raise ValueError(f'"format" goes with "uri", and the source is {given[0]}; leave "format" out')
        return self


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """What a source may reach and how large it may be. The settings of the same names are the source of these.

    Attributes:
        data_dirs: the folders that files may lie in, by their real paths (`WORKER_DATA_DIRS`).
        max_inline_bytes: of inline rows, written as JSON (`WORKER_MAX_INLINE_BYTES`).
        max_row_bytes: of one row of a file, its line end included (`WORKER_MAX_ROW_BYTES`).
        max_decompressed_bytes: of what a compressed file may unpack to (`WORKER_MAX_DECOMPRESSED_BYTES`).
    """

    data_dirs: tuple[Path, ...]
    max_inline_bytes: int = MIB
    max_row_bytes: int = MIB
    max_decompressed_bytes: int = 64 * 1024 * MIB


def check_inline(spec: SourceSpec, limits: SourceLimits) -> None:
    """See that inline rows are few enough to travel inside a payload. Other sources pass.

    Raises:
        PayloadError: the rows are larger than `max_inline_bytes`.
    """
    if spec.rows is None:
        return
    text = json.dumps(spec.rows, ensure_ascii=False, separators=(",", ":"))
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > limits.max_inline_bytes:
        raise PayloadError(
            f"The source's {len(spec.rows):,} inline rows are {size:,} bytes of JSON, above WORKER_MAX_INLINE_BYTES "
            f"({limits.max_inline_bytes:,}). Put them in a file that the worker can read and give its place, such as "
            f'{_EXAMPLE}, or in a table, such as {{"table": "staging_orders"}}'
        )
