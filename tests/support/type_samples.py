"""Values of every type of each database, as literals of its SQL, and how it shows what a column really holds.

Owns the lists and the look. A list leaves out types that nobody keeps rows in, such as those of geometry.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from tests.support.chosen import Backend

_POSTGRESQL: Final[Mapping[str, Sequence[str]]] = {
    "numeric": (
        "'0.1234567890123456789012345678901234567890'",
        "'NaN'",
        "'-Infinity'",
        "'1e-30'",
        "'10'",
        "'10.00'",
    ),
    "numeric(12,2)": ("'9999999999.99'", "'NaN'", "'-0.01'"),
    "bigint": ("'-9223372036854775808'", "'9223372036854775807'"),
    "double precision": ("'NaN'", "'-Infinity'", "'0.1'", "'4.9e-324'", "'-0'"),
    "real": ("'0.1'", "'Infinity'", "'3.4028235e38'"),
    "text": ("''", "' a '", "'ä\U0001f600'", r"E'a\n\t\\'"),
    "varchar(3)": ("''", "'abc'"),
    "char(3)": ("'a'", "'abc'"),
    "bytea": (r"'\x00ff'", "''", r"'\x5c78'"),
    "boolean": ("'t'", "'f'"),
    "date": ("'0001-01-01'", "'9999-12-31'", "'2024-02-29'"),
    "timestamp": ("'2024-03-31 02:30:00.123456'", "'9999-12-31 23:59:59.999999'", "'0001-01-01'"),
    "timestamptz": ("'2024-03-31 02:30:00.123456+05:45'", "'9999-12-31 23:59:59.999999+00'"),
    "time": ("'23:59:59.999999'", "'00:00'"),
    "timetz": ("'12:30:00.000001+05:45'",),
    "interval": ("'-1 day 00:00:00.000001'", "'5 days'"),
    "uuid": ("'12345678-1234-5678-1234-567812345678'",),
    "jsonb": (
        """'{"a": [1, 2.5, null, "x"], "b": {}}'""",
        "'[]'",
        """'"text"'""",
        "'12345678901234567890'",
        "'0.1'",
        "'true'",
    ),
    "json": ("""'{"b":1,"a":0.30000000000000004}'""",),
    "inet": ("'10.0.0.1'", "'10.0.0.0/8'", "'::1'"),
    "cidr": ("'10.0.0.0/8'",),
    "bit varying": ("'101'", "''"),
    "int4range": ("'[1,5)'", "'empty'", "'(,7)'"),
    "tstzrange": ("'[2024-01-01 00:00+02,)'",),
    "int[]": ("'{1,NULL,3}'", "'{}'"),
    "text[]": (r"""'{"a,b","\"",NULL,""}'""",),
    "numeric[]": ("'{0.10,NaN}'",),
    "timestamp[]": ("'{2024-01-01 00:00:00.000001}'",),
    "bytea[]": (r"""'{"\\x00ff"}'""",),
    "temper": ("'glad'", "'so-so'"),
    "temper[]": ("'{glad,so-so}'",),
    "positive": ("'7'",),
    "pair": ("""'(1,"x y")'""",),
    "macaddr": ("'08:00:2b:01:02:03'",),
    "tsvector": ("'a:1 fat:2'",),
    "money": ("'12.50'",),
}

_SQLITE: Final[Mapping[str, Sequence[str]]] = {
    "INTEGER": ("-9223372036854775808", "9223372036854775807", "0"),
    "BIGINT": ("-9223372036854775808", "9223372036854775807"),
    "SMALLINT": ("-32768", "32767"),
    "REAL": ("0.1", "4.9e-324", "1.7976931348623157e308", "-0.0"),
    "DOUBLE": ("0.30000000000000004", "1e15"),
    "FLOAT": ("0.1",),
    # SQLAlchemy reads such numbers through floats, which keep fifteen digits
    "NUMERIC(12, 2)": ("9999999999.99", "-0.01", "7"),
    "NUMERIC(15, 0)": ("999999999999999", "-999999999999999"),
    "DECIMAL(10, 5)": ("0.00001", "12345.67891"),
    "TEXT": ("''", "' a '", "'ä\U0001f600'", "'a' || char(10, 9) || '\\'"),
    "VARCHAR(3)": ("''", "'abc'", "'äöü'"),
    "CHAR(3)": ("'a'", "'abc'"),
    "BLOB": ("x'00ff'", "x''", "x'5c78'"),
    "BOOLEAN": ("1", "0"),
    # as SQLAlchemy stores what SQLite has no type for
    "DATE": ("'0001-01-01'", "'9999-12-31'", "'2024-02-29'"),
    "DATETIME": ("'2024-03-31 02:30:00.123456'", "'9999-12-31 23:59:59.999999'", "'0001-01-01 00:00:00.000000'"),
    "TIMESTAMP": ("'2024-03-31 02:30:00.123456'",),
    "TIME": ("'23:59:59.999999'", "'00:00:00.000000'"),
    "CHAR(32)": ("'12345678123456781234567812345678'",),
    "JSON": (
        """'{"a":[1,2.5,null,"x"],"b":{}}'""",
        "'[]'",
        """'"text"'""",
        "'12345678901234567890'",
        "'0.1'",
        "'true'",
    ),
}

_MARIADB: Final[Mapping[str, Sequence[str]]] = {
    "tinyint": ("-128", "127"),
    "tinyint unsigned": ("0", "255"),
    "smallint": ("-32768", "32767"),
    "smallint unsigned": ("65535",),
    "mediumint": ("-8388608", "8388607"),
    "mediumint unsigned": ("16777215",),
    "int": ("-2147483648", "2147483647"),
    "int unsigned": ("4294967295",),
    "bigint": ("-9223372036854775808", "9223372036854775807"),
    "bigint unsigned": ("18446744073709551615", "0"),
    "boolean": ("true", "false"),
    "decimal(65,30)": (
        "99999999999999999999999999999999999.999999999999999999999999999999",
        "0.000000000000000000000000000001",
        "-0.1",
    ),
    "decimal(12,2)": ("9999999999.99", "-0.01", "10"),
    "double": ("0.1", "4.9406564584124654e-324", "1.7976931348623157e308", "0.30000000000000004"),
    "float": ("0.1", "3.40282e38", "16777216"),
    "char(3)": ("'a'", "'abc'"),
    "varchar(3)": ("''", "'abc'", "'äöü'", "'\U0001f600'", "'a '"),
    "text": ("''", "' a '", "'ä\U0001f600'", r"'a\n\t\\'"),
    "longtext": ("'x'",),
    "varchar(9) CHARACTER SET latin1": ("'é'",),
    "varchar(9) COLLATE utf8mb4_bin": ("'Ab '",),
    "binary(3)": ("x'00ff00'", "'a'"),
    "varbinary(9)": ("x'00ff'", "''", "x'5c78'"),
    "blob": ("x'00ff'", "''", "x'5c78'"),
    "longblob": ("x'ff'",),
    "date": ("'1000-01-01'", "'9999-12-31'", "'2024-02-29'", "'0001-01-01'"),
    "datetime": ("'2024-03-31 02:30:00'",),
    "datetime(6)": ("'2024-03-31 02:30:00.123456'", "'9999-12-31 23:59:59.999999'", "'0001-01-01'"),
    "timestamp(6) NULL": ("'2024-03-31 01:30:00.123456'", "'2038-01-19 03:14:07.999999'"),
    "time": ("'23:59:59'",),
    "time(6)": ("'23:59:59.999999'", "'00:00:00.000001'", "'00:00:00'"),
    "year": ("1901", "2155"),
    "json": (
        # as we write it: a document's blanks are not kept
        """'{"a":[1,2.5,null,"x"],"b":{}}'""",
        "'[]'",
        """'"text"'""",
        "'12345678901234567890'",
        "'0.1'",
        "'true'",
    ),
    "enum('glad','so-so','')": ("'glad'", "'so-so'", "''"),
    "set('a','b','c')": ("'a,c'", "''", "'b'"),
    "uuid": ("'12345678-1234-5678-1234-567812345678'",),
    "inet6": ("'::ffff:10.0.0.1'", "'::1'"),
    "inet4": ("'10.0.0.1'",),
    "bit(1)": ("b'1'", "b'0'"),
    "bit(10)": ("b'1000000001'", "b'1'"),
}

SAMPLES: Final[Mapping[Backend, Mapping[str, Sequence[str]]]] = {
    "postgresql": _POSTGRESQL,
    "sqlite": _SQLITE,
    "mariadb": _MARIADB,
}
"""Literals by type, by database."""

KINDS: Final[Mapping[Backend, Sequence[str]]] = {
    "postgresql": (
        "CREATE TYPE temper AS ENUM ('glad', 'so-so')",
        "CREATE DOMAIN positive AS integer CHECK (VALUE > 0)",
        "CREATE TYPE pair AS (n int, t text)",
    ),
    "sqlite": (),
    "mariadb": (),
}
"""Statements that make the types that are a database's user's own."""


def shown(backend: Backend, column: str) -> str:
    """An expression of SQL: what a column holds, as text that differs where the values do, though they be equal."""
    return {
        "postgresql": f"CAST({column} AS text)",
        # 17 digits tell any two floats apart, which SQLite's own rendering of a number does not
        "sqlite": (
            f"typeof({column}) || ' ' || CASE typeof({column}) WHEN 'real' THEN printf('%!.17g', {column}) "
            f"ELSE quote({column}) END"
        ),
        "mariadb": f"hex(CAST({column} AS binary))",
    }[backend]
