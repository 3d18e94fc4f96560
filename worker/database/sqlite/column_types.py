"""How the ledger's column types are spelt on SQLite.

```text
Identifier   VARCHAR, whose own order is that of the bytes; the length is not enforced
Instant      text as 2026-11-25 17:56:57.239000, in UTC: its order is that of time, and microseconds survive
Document     TEXT: under SQLAlchemy's name JSON a column would turn the text "1.10" into a number
Serial       INTEGER, which makes it the row's own number; AUTOINCREMENT, so that no number is given twice
Money        TEXT with every digit: SQLite calculates by floats only
```
"""

from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler, TypeCompiler

from worker.database.column_types import Document, Money, Serial, utc_now

NOW = "strftime('%Y-%m-%d %H:%M:%f000', 'now')"
"""The moment at which a statement began: to the millisecond, in the text of an `Instant`.

A function of Python's could tell microseconds, but then no other program could insert a row whose column has it as
its default.
"""


@compiles(Document, "sqlite")
def _document(element: Document, compiler: TypeCompiler, **_: object) -> str:
    del element, compiler
    return "TEXT"


@compiles(Serial, "sqlite")
def _serial(element: Serial, compiler: TypeCompiler, **_: object) -> str:
    del element, compiler
    return "INTEGER"


@compiles(Money, "sqlite")
def _money(element: Money, compiler: TypeCompiler, **_: object) -> str:
    del element, compiler
    return "TEXT"


@compiles(utc_now, "sqlite")
def _now(element: utc_now, compiler: SQLCompiler, **_: object) -> str:
    del element, compiler
    return f"({NOW})"
