"""How the ledger's column types are spelt on PostgreSQL."""

from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler, TypeCompiler

from worker.database.column_types import Identifier, utc_now


@compiles(Identifier, "postgresql")
def _identifier(element: Identifier, compiler: TypeCompiler, **_: object) -> str:
    del compiler
    # whatever the database's own collation: bytes, which is also the order in which claims lock rows
    return f'VARCHAR({element.length}) COLLATE "C"'


@compiles(utc_now, "postgresql")
def _now(element: utc_now, compiler: SQLCompiler, **_: object) -> str:
    del element, compiler
    return "now()"
