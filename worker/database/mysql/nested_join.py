"""A join that goes row by row, in the order of its left side, and finds each row of a table by one index.

Owns that promise: locks are then taken in the order of the rows on the left. A planner that were free to choose would
read all of a small table, and wait for rows that nobody asked for.
"""

from sqlalchemy import ColumnElement, FromClause, Join, Table
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler


class NestedJoin(Join):
    """A join of rows with the rows of a table.

    Args:
        rows: in their order.
        table: the registered table.
        condition: which of the table's rows belong to one.
        index: the index by which these are found.
        outer: whether a row to which none belongs comes, too.
    """

    inherit_cache = False

    def __init__(
        self, rows: FromClause, table: Table, condition: ColumnElement[bool], index: str, *, outer: bool = False
    ) -> None:
        super().__init__(rows, table, condition, isouter=outer)
        self.index = index


@compiles(NestedJoin, "mysql", "mariadb")
def _nested_join(element: NestedJoin, compiler: SQLCompiler, **options: object) -> str:
    # SQLAlchemy's search for rows that nothing joins would not know this join
    options |= {"asfrom": True, "from_linter": None}
    left, right = (compiler.process(side, **options) for side in (element.left, element.right))
    options["asfrom"] = False
    condition = compiler.process(element.onclause, **options) if element.onclause is not None else "TRUE"
    how = "LEFT JOIN" if element.isouter else "STRAIGHT_JOIN"
    return f"{left} {how} {right} FORCE INDEX ({compiler.preparer.quote(element.index)}) ON {condition}"
