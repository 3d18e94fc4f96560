"""How the ledger's column types and tables are spelt on MariaDB and MySQL.

Owns the tables' engine and collation: transactions, and text compared byte by byte, trailing spaces and all.
"""

from typing import Any

from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.compiler import DDLCompiler, SQLCompiler, TypeCompiler

from worker.database.column_types import Document, Identifier, Instant, Money, Prose, utc_now

LEDGER = "heavylift_"
"""How the names of the ledger's own tables begin."""


def exact_collation(dialect: Any) -> str:  # noqa: ANN401 - SQLAlchemy's, which says of itself which server it met
    """A collation in which no two texts are equal but the same one: most take "a" and "a " for equal."""
    return "utf8mb4_nopad_bin" if dialect.is_mariadb else "utf8mb4_0900_bin"


@compiles(Identifier, "mysql")
def _identifier(element: Identifier, compiler: TypeCompiler, **_: object) -> str:
    return f"VARCHAR({element.length}) CHARACTER SET utf8mb4 COLLATE {exact_collation(compiler.dialect)}"


@compiles(Document, "mysql")
def _document(element: Document, compiler: TypeCompiler, **_: object) -> str:
    del element, compiler
    # not JSON: MySQL's reorders an object's names
    return "LONGTEXT"


@compiles(Prose, "mysql")
def _prose(element: Prose, compiler: TypeCompiler, **_: object) -> str:
    del element, compiler
    # TEXT ends at 64 KiB
    return "MEDIUMTEXT"


@compiles(Instant, "mysql")
def _instant(element: Instant, compiler: TypeCompiler, **_: object) -> str:
    del element, compiler
    # not TIMESTAMP: that ends in 2038, and is shown in the session's zone
    return "DATETIME(6)"


@compiles(Money, "mysql")
def _money(element: Money, compiler: TypeCompiler, **_: object) -> str:
    del element, compiler
    # as many digits as there are, on either side of the point
    return "DECIMAL(65,30)"


@compiles(utc_now, "mysql")
def _now(element: utc_now, compiler: SQLCompiler, **_: object) -> str:
    del element, compiler
    return "utc_timestamp(6)"


@compiles(CreateTable, "mysql")
def _create_table(element: CreateTable, compiler: DDLCompiler, **options: object) -> str:
    text: str = compiler.visit_create_table(element, **options)  # type: ignore[no-untyped-call]  # SQLAlchemy has not typed its compilers
    if not element.element.name.startswith(LEDGER):
        return text
    return f"{text.rstrip()} ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE={exact_collation(compiler.dialect)}"
