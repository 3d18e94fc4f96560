"""What stands around an SQLite table and has a say when its rows change: the reader of `Surroundings`.

A file has no privileges, rules, row policies or partitions. Owns the reading of foreign keys and triggers. Refuses to
judge: `worker.core.preflight` does.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import RowMapping, Table, func, literal, select, text
from sqlalchemy import table as named_table
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.errors import RequestError
from worker.core.preflight import LARGE, Change, Reference, Surroundings, Trigger
from worker.database.sqlite.indexes import place_of

# Where a foreign key names no columns of its target, it means the primary key.
REFERENCES = text("""
SELECT made.name AS child, reference.id, target.name AS target, reference."from" AS part,
       coalesce(reference."to",
                (SELECT own.name FROM pragma_table_info(reference."table", :schema) AS own
                 WHERE own.pk = reference.seq + 1)) AS target_part,
       lower(reference.on_delete) AS on_delete, lower(reference.on_update) AS on_update
FROM pragma_table_list AS made
JOIN pragma_foreign_key_list(made.name, :schema) AS reference
JOIN pragma_table_list AS target
    ON target.schema = made.schema AND target.name = reference."table" COLLATE NOCASE
WHERE made.schema = :schema AND made.type = 'table'
ORDER BY made.name, reference.id, reference.seq
""")

# The first columns of indexes; a primary key that is the rowid has none. A partial index serves a foreign key's own
# look-ups only where it leaves out nothing but NULLs.
LED = """
SELECT first.name
FROM pragma_index_list(:table, :schema) AS key
JOIN pragma_index_xinfo(key.name, :schema) AS first ON first.seqno = 0
LEFT JOIN {schema}.sqlite_master AS made ON made.type = 'index' AND made.name = key.name
WHERE first.name IS NOT NULL
  AND (NOT key.partial OR replace(made.sql, '"', '') LIKE '% WHERE ' || first.name || ' IS NOT NULL')
UNION
SELECT own.name FROM pragma_table_info(:table, :schema) AS own WHERE own.pk = 1
"""

TRIGGERS = """
SELECT name, sql FROM {schema}.sqlite_master
WHERE type = 'trigger' AND tbl_name = :table COLLATE NOCASE ORDER BY name
"""

DEFERRED = """
SELECT lower(name) FROM {schema}.sqlite_master WHERE type = 'table' AND sql LIKE '%initially%deferred%'
"""

_BETWEEN: Final = r"(?:\s|/\*.*?\*/|--[^\n]*\n)+"
_NAME: Final = r"(?:\"(?:[^\"]|\"\")*\"|\[[^\]]*\]|`(?:[^`]|``)*`|'(?:[^']|'')*'|[\w$]+)"
_EVENT: Final = re.compile(
    rf"CREATE{_BETWEEN}TRIGGER{_BETWEEN}{_NAME}{_BETWEEN}(?:(?:BEFORE|AFTER|INSTEAD{_BETWEEN}OF){_BETWEEN})?"
    rf"(?P<event>DELETE|INSERT|UPDATE)(?:{_BETWEEN}OF{_BETWEEN}(?P<columns>.*?))?{_BETWEEN}ON{_BETWEEN}",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class _ForeignKey:
    """One foreign key: the parts of its columns, in order."""

    parts: Sequence[RowMapping]

    @property
    def child(self) -> str:
        return str(self.parts[0]["child"])

    @property
    def target(self) -> str:
        return str(self.parts[0]["target"])

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(part["part"] for part in self.parts)


async def read_surroundings(connection: AsyncConnection, table: Table, change: Change) -> Surroundings:
    """What stands around a registered table.

    Args:
        connection: to an SQLite.
        table: names the table.
        change: what is to be done to its rows.

    Raises:
        RequestError: the database has no such table.
    """
    place = place_of(table)
    schema = connection.dialect.identifier_preparer.quote(place["schema"])
    named = text("SELECT name FROM pragma_table_list WHERE schema = :schema AND name = :table COLLATE NOCASE")
    name = (await connection.execute(named, place)).scalar_one_or_none()
    if name is None:
        raise RequestError(f"Table {table.fullname!r} is registered, but this database has none of that name")
    keys = _losing(await _foreign_keys(connection, place), name, cascading=change == "delete")
    triggers = await connection.execute(text(TRIGGERS.format(schema=schema)), place)
    deferred = set((await connection.execute(text(DEFERRED.format(schema=schema)))).scalars())
    concerned = {name.lower(), *(key.child.lower() for key in keys)}
    return Surroundings(
        table=name,
        references=tuple([await _reference(connection, key, place) for key in keys]),
        triggers=tuple(_fired((row.name, row.sql) for row in triggers if _fires(row.sql, change))),
        deferred=not deferred.isdisjoint(concerned),
    )


async def _foreign_keys(connection: AsyncConnection, place: Mapping[str, str]) -> list[_ForeignKey]:
    found: dict[tuple[str, int], list[RowMapping]] = {}
    for part in (await connection.execute(REFERENCES, place)).mappings():
        found.setdefault((part["child"], part["id"]), []).append(part)
    return [_ForeignKey(parts) for parts in found.values()]


def _losing(keys: Sequence[_ForeignKey], table: str, *, cascading: bool) -> list[_ForeignKey]:
    """Foreign keys that point at a table, or at one that loses rows with it."""
    losing, met = [table], []
    for loser in losing:
        for key in keys:
            if key.target != loser:
                continue
            met.append(key)
            if cascading and key.parts[0]["on_delete"] == "cascade" and key.child not in losing:
                # looked at in its turn
                losing.append(key.child)
    return sorted(met, key=lambda key: (key.child, key.parts[0]["id"]))


async def _reference(connection: AsyncConnection, key: _ForeignKey, place: Mapping[str, str]) -> Reference:
    quote = connection.dialect.identifier_preparer.quote
    indexes = text(LED.format(schema=quote(place["schema"])))
    led = set((await connection.execute(indexes, {**place, "table": key.child})).scalars())
    some = select(literal(1)).select_from(named_table(key.child, schema=place["schema"])).limit(LARGE).subquery()
    rows: int = (await connection.execute(select(func.count()).select_from(some))).scalar_one()
    index = quote("_".join((key.child, *key.columns, "idx")))
    return Reference(
        name=f"FOREIGN KEY ({', '.join(key.columns)})",
        table=key.child,
        columns=key.columns,
        target=key.target,
        targets=tuple(part["target_part"] for part in key.parts),
        on_delete=key.parts[0]["on_delete"],
        on_update=key.parts[0]["on_update"],
        indexed=not led.isdisjoint(key.columns),
        rows=rows,
        remedy=f"CREATE INDEX {index} ON {quote(key.child)} ({', '.join(map(quote, key.columns))})",
    )


def _fires(sql: str, change: Change) -> bool:
    # one that cannot be read is taken for one that fires: a warning too many
    found = _EVENT.match(sql)
    return found is None or found["event"].lower() == change


def _fired(triggers: Iterator[tuple[str, str]]) -> Iterator[Trigger]:
    for name, sql in triggers:
        found = _EVENT.match(sql)
        columns = found["columns"] if found else None
        named = re.findall(_NAME, columns) if columns else []
        yield Trigger(name, each_row=True, columns=tuple(column.strip("\"[]`'") for column in named))
