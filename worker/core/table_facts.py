"""What a database says about a table: the columns as they really are, and what is unique.

Owns the values that a dialect's catalogue reader fills and that validation and merge statements read. Refuses to
query anything: each dialect's own module does that.
"""

from dataclasses import dataclass, field
from decimal import Decimal

from worker.core.errors import KeyNotUniqueError, UnknownColumnError


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """One column as the database declares it, whatever the model says.

    Attributes:
        name: the column's name.
        type_name: its type without length or precision, in the words of the SQL standard whatever the database calls
            it (`character varying`, `text`, `numeric`, `real`, `timestamp without time zone`); a type that the
            standard lacks in the database's own (`citext`); of a domain, the type beneath it.
        full_type: its type with length and precision (`character varying(20)`, `numeric(12,2)`).
        nullable: whether it admits NULL.
        default: the database's own default as the catalogue writes it, None where there is none.
        generated: whether the database alone writes it (a generated or always-identity column).
        identity: whether it is an always-identity column: of what is generated, the values that cannot be made again.
        text: whether it holds character data, where an empty string is a value.
        max_length: the most characters it takes, None where unbounded or not text.
        minimum: the least value of an integer column, None elsewhere.
        maximum: the greatest value of an integer column, None elsewhere.
        comparable: whether its equality sees every change (`json` and `xml` have none; that of `citext` and of a
            nondeterministic collation overlooks a change of case).
        array: whether it holds arrays.
        driver_type: which Python values the driver takes for it, by the name of the type that is used for them
            elsewhere: `bool`, `int2`, `int4`, `int8`, `numeric`, `float4`, `float8`, `bytea`, `uuid`, `date`, `time`,
            `timestamp`, `timestamptz`, `interval`; `text` where it takes the written form, as for enums, documents,
            arrays and extensions' types.
        collation: its collation, qualified and quoted for use after COLLATE; None where it has the default one or none.
        exact_digits: how many digits of a decimal number it keeps exactly, where that is fewer than its type says.
        finite: whether it is a column of numbers that takes neither NaN nor infinity.
        exact_type: the type of SQLAlchemy's under which its values come and go exactly as they are, whatever a model
            says of the column; opaque here, and None where nobody has said.
    """

    name: str
    type_name: str
    full_type: str
    nullable: bool
    default: str | None = None
    generated: bool = False
    text: bool = False
    max_length: int | None = None
    minimum: int | Decimal | None = None
    maximum: int | Decimal | None = None
    comparable: bool = True
    array: bool = False
    driver_type: str = "text"
    collation: str | None = None
    identity: bool = False
    exact_digits: int | None = None
    finite: bool = False
    exact_type: object = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """A primary key or a complete, plain unique constraint or index: one that an upsert may rely on.

    Attributes:
        name: the constraint's or index's name.
        columns: its columns, in its order.
        primary: whether it is the primary key.
    """

    name: str
    columns: tuple[str, ...]
    primary: bool = False


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A table as the database declares it.

    Attributes:
        table: the registered name.
        columns: facts by column name, in the table's order.
        unique_keys: what is unique, primary key first.
        partitioned: whether it is a partitioned table.
        estimated_rows: about how many rows it has, as the database last looked; None where it never did.
        deferred: whether some of its constraints are checked only at COMMIT, unless they are asked for sooner.
        compares_rows: whether the planner follows an index for a comparison of rows, `(a, b) > (1, 2)`.
    """

    table: str
    columns: dict[str, ColumnFacts]
    unique_keys: tuple[UniqueKey, ...] = field(default=())
    partitioned: bool = False
    estimated_rows: int | None = None
    deferred: bool = False
    compares_rows: bool = True

    def column(self, name: str) -> ColumnFacts:
        """The facts of one column.

        Raises:
            UnknownColumnError: the table has no such column.
        """
        try:
            return self.columns[name]
        except KeyError:
            raise UnknownColumnError(self.table, name, self.columns) from None

    def unique_key(self, names: tuple[str, ...] | None) -> UniqueKey:
        """The unique key over exactly these columns, in any order; the primary key for None.

        Raises:
            UnknownColumnError: the table has no such column.
            KeyNotUniqueError: no unique constraint covers exactly these columns; the message names those that exist.
        """
        if names is None:
            for key in self.unique_keys:
                if key.primary:
                    return key
            raise KeyNotUniqueError(
                f"Table {self.table!r} has no primary key. Name a unique key with `key`. {self._describe_keys()}"
            )
        for name in names:
            self.column(name)
        for key in self.unique_keys:
            if sorted(key.columns) == sorted(names):
                return key
        raise KeyNotUniqueError(
            f"No unique constraint of table {self.table!r} covers exactly ({', '.join(names)}), so rows could not be "
            f"told apart. {self._describe_keys()}"
        )

    def _describe_keys(self) -> str:
        if not self.unique_keys:
            return "It has no unique constraint at all."
        keys = "; ".join(f"{key.name} ({', '.join(key.columns)})" for key in self.unique_keys)
        return f"Its unique constraints are: {keys}."
