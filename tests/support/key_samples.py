"""Keys of every type that has an order, on each database: what is declared, what a model says of it, and rows.

Owns the samples. A row is written as the database writes it, so that what a driver or a model makes of it is not asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    Boolean,
    Date,
    DateTime,
    Float,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    String,
    Time,
    Uuid,
)
from sqlalchemy import Enum as EnumType
from sqlalchemy.types import TypeEngine
from sqlmodel.sql.sqltypes import UTCDateTime

from tests.support.chosen import Backend


class Mood(Enum):
    """Names and values are crossed over, and their order is neither of the two."""

    calm = "wild"
    wild = "calm"
    blue = "blue"


@dataclass(frozen=True)
class Case:
    """A key's columns.

    Attributes:
        columns: by name: what the database declares, and what the model says of it.
        rows: the keys, each as the database writes it.
    """

    columns: dict[str, tuple[str, TypeEngine[Any]]]
    rows: list[str]


def one(declared: str, modelled: TypeEngine[Any], *rows: str) -> Case:
    """A key of one column."""
    return Case({"k": (declared, modelled)}, list(rows))


def cast(declared: str, modelled: TypeEngine[Any], *rows: str) -> Case:
    """A key of one column, whose rows are cast to its type."""
    return one(declared, modelled, *(f"CAST({row} AS {declared.partition(' COLLATE')[0]})" for row in rows))


WORDS: Final = [
    "'a'",
    "'A'",
    "'b'",
    "'B'",
    "'ä'",
    "'Z'",
    "'z'",
    "'a b'",
    "'ab'",
    "''",
    "'-a'",
    "'𝄞'",
    "'a''b'",
    r"'a\b'",
]

POSTGRESQL: Final = {
    "bigint under a narrower model": cast(
        "bigint", Integer(), "-9223372036854775808", "-2147483649", "-1", "0", "2147483648", "9223372036854775807"
    ),
    "smallint": cast("smallint", Integer(), "-32768", "0", "32767"),
    "boolean": cast("boolean", Integer(), "false", "true"),
    "text": cast("text", String(), *WORDS),
    "varchar of a shorter model": cast("varchar", String(1), *WORDS),
    "text COLLATE C": cast('text COLLATE "C"', String(), *WORDS),
    "text COLLATE linguistic": cast("text COLLATE linguistic", String(), *WORDS),
    "char": cast("char(4)", String(), "'a'", r"E'a\t'", "'a b'", "'ab'", "''"),
    "citext": cast("citext", String(), "'a'", "'B'", "'c'", "'D'", "'ä'", "'_'"),
    "enumeration": cast("mood", EnumType(Mood), "'wild'", "'blue'", "'calm'"),
    "enumeration as text": cast("mood", String(), "'wild'", "'blue'", "'calm'"),
    "uuid": cast("uuid", Uuid(), *(f"'{digit}0000000-0000-4000-8000-00000000000{digit}'" for digit in "0179af")),
    "timestamptz": cast(
        "timestamptz",
        UTCDateTime(),
        *(f"'{moment}'" for moment in ("0001-01-01 00:00:00+00", "2024-03-31 02:30:00.000001+02")),
        *(f"'2024-03-31 00:30:00.{micro:06}+00'" for micro in (2, 3, 999_999)),
        "'9999-12-31 00:00:00+00'",
    ),
    "timestamp": cast(
        "timestamp", DateTime(), *(f"'2024-03-31 02:30:00.{micro:06}'" for micro in (0, 1, 2, 999_998, 999_999))
    ),
    "timestamp under a model with zones": cast(
        "timestamp", UTCDateTime(), *(f"'2024-03-31 02:30:00.{micro:06}'" for micro in (0, 1, 2, 999_998, 999_999))
    ),
    "date": cast("date", Date(), "'-infinity'", "'0001-01-01'", "'1969-12-31'", "'9999-12-31'", "'infinity'"),
    "time": cast("time", Time(), "'00:00'", "'00:00:00.000001'", "'23:59:59.999999'"),
    "time with time zone": cast(
        "timetz", Time(timezone=True), "'12:00+02'", "'12:00+01'", "'10:00+00'", "'12:00:01+02'"
    ),
    "the end of time": Case(
        {"until": ("date", Date()), "number": ("int", Integer())},
        [f"'{day}', {number}" for day in ("9999-12-31", "infinity", "2024-01-01") for number in (1, 2)],
    ),
    "interval": cast("interval", Interval(), "'-1 day'", "'29 days'", "'1 mon'", "'31 days'", "'12 mon 1 day'"),
    "numeric under a rounder model": cast(
        "numeric(30,10)", Numeric(12, 2), "-99999999999999999999", "0.0000000001", "0.0000000002", "0.01", "1"
    ),
    "numeric": cast("numeric", Numeric(), "'-Infinity'", "-1e-200", "0", "1e-200", "1e200", "'Infinity'"),
    "double precision": cast(
        "float8", Float(), "'-Infinity'", "-1e308", "-5e-324", "0.1", "0.1000000000000001", "'Infinity'"
    ),
    "real": cast("real", Float(), "0.1", "0.2", "0.3", "16777216", "1e38"),
    "bytea": cast("bytea", LargeBinary(), r"'\x'", r"'\x00'", r"'\x0000'", r"'\x7f'", r"'\x80'", r"'\xff00'"),
    "inet": cast("inet", String(), "'10.0.0.1'", "'10.0.0.1/8'", "'9.0.0.0/8'", "'::1'"),
    "array": cast("integer[]", ARRAY(Integer), "'{}'", "'{1}'", "'{1,2}'", "'{10}'", "'{2}'"),
    "mixed": Case(
        {
            "region": ("text COLLATE linguistic", String()),
            "day": ("timestamptz", UTCDateTime()),
            "amount": ("numeric(20,6)", Numeric(10, 2)),
        },
        [
            f"'{region}', CAST('2024-01-01 00:00:00.{micro:06}+00' AS timestamptz), {amount}"
            for region in ("a", "B", "ä")
            for micro in (1, 2)
            for amount in ("-0.000001", "0.000001")
        ],
    ),
}

SQLITE: Final = {
    "integer": one(
        "INTEGER", Integer(), "-9223372036854775807 - 1", "-2147483649", "-1", "0", "2147483648", "9223372036854775807"
    ),
    "bigint under a narrower model": one("BIGINT", Integer(), "-2147483649", "-1", "0", "2147483648"),
    "boolean": one("BOOLEAN", Boolean(), "0", "1"),
    "text": one("TEXT", String(), *WORDS),
    "varchar of a shorter model": one("VARCHAR(40)", String(1), *WORDS),
    "text without regard to case": one("TEXT COLLATE NOCASE", String(), "'a'", "'B'", "'c'", "'D'", "'ä'", "'_'"),
    "text without regard to spaces": one("TEXT COLLATE RTRIM", String(), "'a'", "'a b'", "'b  '", "' b'", "''"),
    "enumeration": one("VARCHAR(4)", EnumType(Mood), "'wild'", "'blue'", "'calm'"),
    "uuid": one("CHAR(32)", Uuid(), *(f"'{digit}{'0' * 30}{digit}'" for digit in "0179af")),
    "datetime": one(
        "DATETIME", DateTime(), *(f"'2024-03-31 02:30:00.{micro:06}'" for micro in (0, 1, 2, 999_998, 999_999))
    ),
    "datetime under a model with zones": one(
        "DATETIME", UTCDateTime(), *(f"'2024-03-31 02:30:00.{micro:06}'" for micro in (0, 1, 2, 999_998, 999_999))
    ),
    "date": one("DATE", Date(), "'0001-01-01'", "'1969-12-31'", "'9999-12-31'"),
    "time": one("TIME", Time(), "'00:00:00.000000'", "'00:00:00.000001'", "'23:59:59.999999'"),
    "numeric under a rounder model": one("NUMERIC(12, 4)", Numeric(12, 2), "-99999999.9999", "0.0001", "0.01", "1"),
    "double": one("DOUBLE", Float(), "-1e308", "-5e-324", "0.1", "0.1000000000000001", "9e999"),
    "blob": one("BLOB", LargeBinary(), "x''", "x'00'", "x'0000'", "x'7f'", "x'80'", "x'ff00'"),
    "mixed": Case(
        {
            "region": ("TEXT COLLATE NOCASE", String()),
            "day": ("DATETIME", UTCDateTime()),
            "amount": ("NUMERIC(12, 6)", Numeric(10, 2)),
        },
        [
            f"'{region}', '2024-01-01 00:00:00.{micro:06}', {amount}"
            for region in ("a", "B", "ä")
            for micro in (1, 2)
            for amount in ("-0.000001", "0.000001")
        ],
    ),
}

MARIADB: Final = {
    "bigint under a narrower model": one(
        "bigint", Integer(), "-9223372036854775808", "-2147483649", "-1", "0", "2147483648", "9223372036854775807"
    ),
    "bigint unsigned": one(
        "bigint unsigned", Integer(), "0", "9223372036854775807", "9223372036854775808", "18446744073709551615"
    ),
    "smallint": one("smallint", Integer(), "-32768", "0", "32767"),
    "boolean": one("boolean", Boolean(), "false", "true"),
    "text by its letters": one(
        "varchar(40) COLLATE utf8mb4_unicode_ci", String(), "'a'", "'B'", "'c'", "'Z'", "'a b'", "'ab'", "''", "'-a'"
    ),
    "text by its bytes": one("varchar(40) COLLATE utf8mb4_bin", String(), *WORDS[:-1], r"'a\\b'"),
    "text by its bytes and spaces": one(
        "varchar(40) COLLATE utf8mb4_nopad_bin", String(), "'a'", "'a '", "'a  '", "''", "' '", "'ab'"
    ),
    "text of another character set": one(
        "varchar(40) CHARACTER SET latin1 COLLATE latin1_swedish_ci", String(1), "'a'", "'B'", "'ä'", "'z'", "''"
    ),
    "char": one("char(4) COLLATE utf8mb4_bin", String(), "'a'", r"'a\t'", "'a b'", "'ab'", "''"),
    "enumeration": one("enum('wild', 'blue', 'calm')", EnumType(Mood), "'wild'", "'blue'", "'calm'"),
    "enumeration as text": one("enum('wild', 'blue', 'calm')", String(), "'wild'", "'blue'", "'calm'"),
    "uuid": one("uuid", Uuid(), *(f"'{digit}0000000-0000-4000-8000-00000000000{digit}'" for digit in "0179af")),
    "uuid as text": one("char(32)", Uuid(), *(f"'{digit}{'0' * 30}{digit}'" for digit in "0179af")),
    "datetime": one(
        "datetime(6)", DateTime(), *(f"'2024-03-31 02:30:00.{micro:06}'" for micro in (0, 1, 2, 999_998, 999_999))
    ),
    "datetime under a model with zones": one(
        "datetime(6)", UTCDateTime(), *(f"'2024-03-31 02:30:00.{micro:06}'" for micro in (0, 1, 2, 999_998, 999_999))
    ),
    "timestamp": one(
        "timestamp(6)", UTCDateTime(), *(f"'2024-03-31 03:30:00.{micro:06}'" for micro in (0, 1, 999_999))
    ),
    "seconds": one("datetime", DateTime(), "'1000-01-01'", "'2024-03-31 02:30:00'", "'9999-12-31 23:59:59'"),
    "date": one("date", Date(), "'0001-01-01'", "'1969-12-31'", "'9999-12-31'"),
    "time": one("time(6)", Time(), "'00:00'", "'00:00:00.000001'", "'23:59:59.999999'"),
    "year": one("year", Integer(), "1901", "1999", "2155"),
    "numeric under a rounder model": one(
        "decimal(30,10)", Numeric(12, 2), "-99999999999999999999", "0.0000000001", "0.0000000002", "0.01", "1"
    ),
    "double": one("double", Float(), "-1e308", "-5e-300", "0.1", "0.1000000000000001", "1e308"),
    "float": one("float", Float(), "0.1", "0.2", "0.3", "16777216", "1e38"),
    "binary": one("varbinary(8)", LargeBinary(), "x''", "x'00'", "x'0000'", "x'7f'", "x'80'", "x'ff00'"),
    "inet6": one("inet6", String(), "'::ffff:10.0.0.1'", "'::ffff:9.0.0.0'", "'::1'", "'2001:db8::ff00'"),
    "mixed": Case(
        {
            "region": ("varchar(4) COLLATE utf8mb4_unicode_ci", String()),
            "day": ("datetime(6)", UTCDateTime()),
            "amount": ("decimal(20,6)", Numeric(10, 2)),
        },
        [
            f"'{region}', '2024-01-01 00:00:00.{micro:06}', {amount}"
            for region in ("a", "B", "ö")
            for micro in (1, 2)
            for amount in ("-0.000001", "0.000001")
        ],
    ),
}

CASES: Final[Mapping[Backend, Mapping[str, Case]]] = {
    "postgresql": POSTGRESQL,
    "sqlite": SQLITE,
    "mariadb": MARIADB,
}
"""By database, by name."""
