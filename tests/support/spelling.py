"""The few words in which databases differ and that the tests' own SQL needs: one `Spelling` for each database.

Owns words, not statements. A test builds its SQL with SQLAlchemy where that reads as well.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from tests.support.chosen import Backend


class Spelling(Protocol):
    """How one database writes what tests need; all of it is text to be put into SQL.

    Attributes:
        now: the present moment, as a `moment` column holds it.
        moment: the type of a moment in time.
        local: the type of a date and time without a zone.
        text: the type of texts of any length, which cannot be in a key.
        double: the type of a Python float.
        raw: the type of bytes.
        document: the type of JSON.
        uuid: the type of a UUID.
        counted: a column's type and constraint: a primary key that the database counts.
    """

    now: str
    moment: str
    local: str
    text: str
    double: str
    raw: str
    document: str
    uuid: str
    counted: str

    def numbers(self, first: int, last: int, step: int = 1) -> str:
        """A derived table, named, with one column `n`: the integers from the first to the last one."""
        ...

    def money(self, digits: int, after_point: int) -> str:
        """The type of exact decimal numbers."""
        ...

    def ago(self, seconds: str | float) -> str:
        """The moment that lies so many seconds back; an expression of SQL's, or a number."""
        ...

    def joined(self, *parts: str) -> str:
        """Texts and numbers, one after the other, as one text."""
        ...

    def as_text(self, value: str) -> str:
        """A value as text."""
        ...

    def as_integer(self, value: str) -> str:
        """A text, or another number, as an integer."""
        ...

    def with_check(self, table: str, condition: str) -> Sequence[str]:
        """Statements, to be sent one by one in one transaction, after which a table has another CHECK."""
        ...


class PostgresSpelling:
    """PostgreSQL's."""

    now = "now()"
    moment = "timestamptz"
    local = "timestamp"
    text = "text"
    double = "double precision"
    raw = "bytea"
    document = "json"
    uuid = "uuid"
    counted = "serial PRIMARY KEY"

    def numbers(self, first: int, last: int, step: int = 1) -> str:
        """A derived table of integers."""
        return f"generate_series({first}, {last}, {step}) AS numbers (n)"

    def money(self, digits: int, after_point: int) -> str:
        """The type of exact decimal numbers."""
        return f"numeric({digits},{after_point})"

    def ago(self, seconds: str | float) -> str:
        """The moment that lies so many seconds back."""
        return f"(now() - ({seconds}) * interval '1 second')"

    def joined(self, *parts: str) -> str:
        """Texts and numbers as one text."""
        return f"concat({', '.join(parts)})"

    def as_text(self, value: str) -> str:
        """A value as text."""
        return f"CAST({value} AS text)"

    def as_integer(self, value: str) -> str:
        """A value as an integer."""
        return f"CAST({value} AS bigint)"

    def with_check(self, table: str, condition: str) -> Sequence[str]:
        """Statements after which a table has another CHECK."""
        return (f"ALTER TABLE {table} ADD CHECK ({condition})",)


class SqliteSpelling:
    """SQLite's, as SQLAlchemy stores what SQLite has no type for."""

    now = "strftime('%Y-%m-%d %H:%M:%f000', 'now')"
    moment = "DATETIME"
    local = "DATETIME"
    text = "TEXT"
    double = "DOUBLE"
    raw = "BLOB"
    document = "JSON"
    uuid = "CHAR(32)"
    counted = "INTEGER PRIMARY KEY AUTOINCREMENT"

    def numbers(self, first: int, last: int, step: int = 1) -> str:
        """A derived table of integers."""
        compared = "<=" if step > 0 else ">="
        counting = f"SELECT {first} WHERE {first} {compared} {last} UNION ALL SELECT n + {step} FROM counting"
        until = f"WHERE n + {step} {compared} {last}"
        return f"(WITH RECURSIVE counting (n) AS ({counting} {until}) SELECT n FROM counting) AS numbers"

    def money(self, digits: int, after_point: int) -> str:
        """The type of exact decimal numbers."""
        return f"NUMERIC({digits}, {after_point})"

    def ago(self, seconds: str | float) -> str:
        """The moment that lies so many seconds back."""
        return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', (-({seconds})) || ' seconds')"

    def joined(self, *parts: str) -> str:
        """Texts and numbers as one text."""
        return f"({' || '.join(parts)})"

    def as_text(self, value: str) -> str:
        """A value as text."""
        return f"CAST({value} AS TEXT)"

    def as_integer(self, value: str) -> str:
        """A value as an integer."""
        return f"CAST({value} AS INTEGER)"

    def with_check(self, table: str, condition: str) -> Sequence[str]:
        """Statements after which a table has another CHECK; existing rows are not looked at.

        It has no ALTER TABLE for it; its manual allows this way.
        """
        added = f", CHECK ({condition}))".replace("'", "''")
        longer = f"substr(rtrim(sql), 1, length(rtrim(sql)) - 1) || '{added}'"
        return (
            "PRAGMA writable_schema = ON",
            f"UPDATE sqlite_schema SET sql = {longer} WHERE type = 'table' AND name = '{table}'",
            # other connections, and this one, read the schema again when its version has changed
            "CREATE TABLE schema_changed (n INTEGER)",
            "DROP TABLE schema_changed",
            "PRAGMA writable_schema = RESET",
        )


class MariaDbSpelling:
    """MariaDB's."""

    now = "utc_timestamp(6)"
    moment = "datetime(6)"
    local = "datetime(6)"
    text = "longtext"
    double = "double"
    raw = "longblob"
    document = "json"
    uuid = "uuid"
    counted = "integer AUTO_INCREMENT PRIMARY KEY"

    def numbers(self, first: int, last: int, step: int = 1) -> str:
        """A derived table of integers."""
        return f"(SELECT seq AS n FROM seq_{first}_to_{last}_step_{abs(step)}) AS numbers"

    def money(self, digits: int, after_point: int) -> str:
        """The type of exact decimal numbers."""
        return f"decimal({digits},{after_point})"

    def ago(self, seconds: str | float) -> str:
        """The moment that lies so many seconds back."""
        return f"(utc_timestamp(6) - INTERVAL ({seconds}) SECOND)"

    def joined(self, *parts: str) -> str:
        """Texts and numbers as one text."""
        return f"concat({', '.join(parts)})"

    def as_text(self, value: str) -> str:
        """A value as text."""
        return f"CAST({value} AS char)"

    def as_integer(self, value: str) -> str:
        """A value as an integer."""
        return f"CAST({value} AS signed)"

    def with_check(self, table: str, condition: str) -> Sequence[str]:
        """Statements after which a table has another CHECK."""
        return (f"ALTER TABLE {table} ADD CHECK ({condition})",)


SPELLINGS: Final[Mapping[Backend, Spelling]] = {
    "postgresql": PostgresSpelling(),
    "sqlite": SqliteSpelling(),
    "mariadb": MariaDbSpelling(),
}
"""By database."""


def spelling_of(backend_name: str) -> Spelling:
    """How the database of an engine is spelt.

    Args:
        backend_name: SQLAlchemy's name of the dialect, as in `engine.dialect.name`.
    """
    named: Mapping[str, Backend] = {"postgresql": "postgresql", "sqlite": "sqlite"}
    return SPELLINGS[named.get(backend_name, "mariadb")]
