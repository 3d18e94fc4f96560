"""How the ledger's column types are spelt on PostgreSQL."""

from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import TypeCompiler

from worker.database.column_types import Identifier


@compiles(Identifier, "postgresql")
def _identifier(element: Identifier, compiler: TypeCompiler, **_: object) -> str:
    del compiler
    # whatever the database's own collation: bytes, which is also the order in which claims lock rows
    return f'VARCHAR({element.length}) COLLATE "C"'
