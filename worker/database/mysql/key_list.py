"""How a list of keys is spelt as a table on MariaDB and MySQL: as one JSON parameter, however many there are.

```sql
(SELECT place AS heavylift_place, CAST(c0 AS SIGNED) AS heavylift_key_0 FROM JSON_TABLE(...) ORDER BY 2 LIMIT ...)
    AS heavylift_keys
```

It is in the order of the keys, so that what is joined with it is locked in that order, where the planner begins here.
Neither of the two servers has names for the columns of VALUES that the other would take. Owns the spelling.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    Integer,
    LargeBinary,
    Numeric,
    Text,
    bindparam,
    column,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import FromLinter, SQLCompiler
from sqlalchemy.types import TypeEngine

from worker.database.mysql.casts import CastAs, in_collation
from worker.database.mysql.exact_types import (
    Bits,
    Kept,
    Label,
    Labels,
    NativeUuid,
    Single,
    Written,
    label_literal,
    set_number,
    written_moment,
)
from worker.database.mysql.sent_rows import ROWS, packed, rows_text
from worker.database.mysql.sent_values import sendable
from worker.database.mysql.update_statement import ALL
from worker.declare.row_order import KeyList

GREATEST_SIGNED: Final = 2**63 - 1

MOST_BYTES: Final = 3_072
"""Of a key."""


@compiles(KeyList, "mysql", "mariadb")
def _key_list(element: KeyList, compiler: SQLCompiler, **options: object) -> str:
    named = list(element.columns)
    # SQLAlchemy has no other way to the rows of its Values
    rows = [tuple(row) for chunk in element._data for row in chunk]  # noqa: SLF001 - SQLAlchemy has no public way to the rows of its Values
    values = [sendable([written_moment(value) for value in part]) for part in zip(*rows, strict=True)]
    sent = text(rows_text(len(named))).bindparams(
        bindparam(ROWS, packed([*zip(*values, strict=True)]), type_=Text(), unique=True)
    )
    listed = sent.columns(*(column(f"c{at}", Text) for at in range(len(named)))).subquery("heavylift_sent")
    typed = [
        _typed(listed.c[f"c{at}"], part.type, held).label(str(part.name))
        for at, (part, held) in enumerate(zip(named, values, strict=True))
    ]
    in_order = select(*typed).order_by(*typed[1:]).limit(literal_column(str(ALL)))
    linter = options.pop("from_linter", None)
    if isinstance(linter, FromLinter):
        linter.froms[element] = str(element.name)
    return str(compiler.process(in_order.subquery(str(element.name)), **{**options, "asfrom": True}))


def _typed(sent: ColumnElement[Any], type_: TypeEngine[Any], values: Sequence[object]) -> ColumnElement[Any]:
    """A text that was sent, as a value that meets a column of its exact type by the column's index."""
    match type_:
        case Label():
            return func.field(sent, *map(label_literal, type_.labels))
        case Labels():
            return set_number(sent, type_.labels)
        case LargeBinary():
            # of a bounded length: what MariaDB keeps of longer ones in a table of its own is damaged
            return func.unhex(CastAs(sent, f"CHAR({2 * MOST_BYTES})"))
        case Kept() if type_.within is not None:
            return in_collation(sent, type_.within)
    written = _cast_to(type_, values)
    return sent if written is None else CastAs(sent, written)


def _cast_to(type_: TypeEngine[Any], values: Iterable[object]) -> str | None:
    match type_:
        case Written():
            return type_.cast_to
        case NativeUuid():
            return "UUID"
        case Integer() | BigInteger() | Bits():
            large = any(isinstance(value, int) and value > GREATEST_SIGNED for value in values)
            return "UNSIGNED" if large else "SIGNED"
        case Double() | Single():
            return "DOUBLE"
        case Numeric():
            decimals = max((len(str(value).partition(".")[2]) for value in values), default=0)
            return f"DECIMAL(65,{decimals})"
    return None
