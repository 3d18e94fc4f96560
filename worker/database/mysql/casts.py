"""CAST and CONVERT in the words of MariaDB and MySQL, which have fewer types there than columns can have.

Owns the construct, and what SQLAlchemy's own lacks: that leaves out, with a warning, what it does not know, and without
one how many digits a number has.
"""

from typing import Any

from sqlalchemy import Cast, ColumnElement, String, collate, func, literal_column, type_coerce
from sqlalchemy.dialects.mysql import BIT
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.visitors import InternalTraversal
from sqlalchemy.types import NULLTYPE, TypeEngine

from worker.database.column_types import Money


class CastAs(ColumnElement[Any]):
    """A CAST.

    Args:
        value: what is cast.
        written: to what, as SQL: `DECIMAL(12,2)`. Constant text of this package.
        type_: of the result, where SQLAlchemy is to know.
    """

    __visit_name__ = "heavylift_cast_as"
    inherit_cache = True
    _traverse_internals = [  # noqa: RUF012 - as SQLAlchemy declares it
        ("value", InternalTraversal.dp_clauseelement),
        ("written", InternalTraversal.dp_string),
    ]

    def __init__(self, value: ColumnElement[Any], written: str, type_: TypeEngine[Any] = NULLTYPE) -> None:
        self.value = value
        self.written = written
        self.type = type_

    @property
    def _from_objects(self) -> list[Any]:
        # from which tables a SELECT of it reads
        return list(self.value._from_objects)  # noqa: SLF001 - as each of SQLAlchemy's own elements does


@compiles(CastAs, "mysql", "mariadb")
def _cast_as(element: CastAs, compiler: SQLCompiler, **options: object) -> str:
    return f"CAST({compiler.process(element.value, **options)} AS {element.written})"


@compiles(Cast, "mysql", "mariadb")
def _cast(element: Cast[Any], compiler: SQLCompiler, **options: object) -> str:
    if isinstance(element.clause.type, BIT) and isinstance(element.type, String):
        # cast as they are, bits are characters
        return f"CAST({compiler.process(element.clause, **options)} + 0 AS CHAR)"
    if not isinstance(element.type, Money):
        return str(compiler.visit_cast(element, **options))  # type: ignore[no-untyped-call]  # SQLAlchemy's own
    # SQLAlchemy leaves out the digits, and would be given a whole number
    digits = compiler.dialect.type_compiler_instance.process(element.type)
    return f"CAST({compiler.process(element.clause, **options)} AS {digits})"


def in_collation(value: ColumnElement[Any], collation: str) -> ColumnElement[Any]:
    """A text in a collation and its character set, so that it meets a column of that collation by its index."""
    charset = collation.partition("_")[0]
    return collate(func.convert(value.op("USING")(literal_column(charset))), collation)


def bare(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """A column without its type, whose Python side has no say in how the database compares."""
    return type_coerce(column, NULLTYPE)


def as_bytes(value: ColumnElement[Any]) -> ColumnElement[Any]:
    """The bytes of a text in its own character set, which compare as they are."""
    return CastAs(value, "BINARY")
