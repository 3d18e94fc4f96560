"""How a list of keys is spelt as a table on SQLite, whose VALUES have columns called column1, column2, ...

```sql
(SELECT column1 AS heavylift_place, column2 AS heavylift_key_0 FROM (VALUES (?, ?), (?, ?))) AS heavylift_keys
```
"""

from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from worker.declare.row_order import KeyList


@compiles(KeyList, "sqlite")
def _key_list(element: KeyList, compiler: SQLCompiler, **options: object) -> str:
    values = str(compiler.visit_values(element, **options))  # type: ignore[no-untyped-call]  # SQLAlchemy's own
    # what follows the rows is known: the names of the list and of its columns are this program's own
    rows, named, _ = values.rpartition(" AS ")
    if not named:
        return values
    quote = compiler.preparer.quote
    names = ", ".join(f"column{at} AS {quote(part.name)}" for at, part in enumerate(element.columns, start=1))
    return f"(SELECT {names} FROM {rows}) AS {quote(str(element.name))}"  # noqa: S608  # quoted
