"""The indexes of an SQLite table, as the schema has them.

Owns the query and what is made of it. Refuses to say which of them is a key: `catalogue` does.
"""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Final

from sqlalchemy import RowMapping, Table, text
from sqlalchemy.ext.asyncio import AsyncConnection

_EXPRESSION: Final = -2
"""What stands for a column's number where an index has an expression."""

# The parts of a key are followed by what makes each entry one of its own: the rowid, or the primary key.
INDEXES = text("""
SELECT key.name, key."unique" AS is_unique, key.origin, key.partial, part.name AS column_name, part.cid, part.coll,
       part."desc" AS descending, part.key AS of_key
FROM pragma_index_list(:table, :schema) AS key
JOIN pragma_index_xinfo(key.name, :schema) AS part
ORDER BY key.origin <> 'pk', key.origin <> 'u', key.name, part.seqno
""")


class Index:
    """An index as the schema has it.

    Attributes:
        name: its name.
        unique: whether it tells rows apart.
        origin: `pk`, `u` (a UNIQUE in the table) or `c` (a CREATE INDEX).
        partial: whether it leaves rows out.
        parts: its key's parts in order; one over an expression has no column's name.
        order: its key's columns and those that follow, as far as each is one, and ascending; the rowid is None.
    """

    def __init__(self, parts: Sequence[RowMapping]) -> None:
        self.name = str(parts[0]["name"])
        self.unique = bool(parts[0]["is_unique"])
        self.origin = str(parts[0]["origin"])
        self.partial = bool(parts[0]["partial"])
        self.parts = [part for part in parts if part["of_key"]]
        orderly = takewhile(lambda part: part["cid"] != _EXPRESSION and not part["descending"], parts)
        self.order: list[str | None] = [part["column_name"] for part in orderly]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its columns; of an expression, an empty one."""
        return tuple(part["column_name"] or "" for part in self.parts)

    def orders_as(self, collations: Mapping[str, str | None]) -> bool:
        """Whether each part is a column, compared as the column is."""
        return all(
            part["column_name"] is not None
            and str(part["coll"]).upper() == (collations.get(part["column_name"]) or "BINARY")
            for part in self.parts
        )


def place_of(table: Table) -> dict[str, str]:
    """Where a registered table is, as the parameters of this package's queries."""
    return {"table": table.name, "schema": table.schema or "main"}


async def read_indexes(connection: AsyncConnection, place: Mapping[str, str]) -> list[Index]:
    """The indexes of a table: those of keys first, constraints before others."""
    parts: dict[str, list[RowMapping]] = {}
    for part in (await connection.execute(INDEXES, place)).mappings():
        parts.setdefault(part["name"], []).append(part)
    return [Index(found) for found in parts.values()]
