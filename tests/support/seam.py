"""What of a program's source is for one database only: its name, its driver, SQL of its own, a question which it is.

Owns what counts as that. Comments and docstrings do nothing, so a database may be an example there. SQL is built with
SQLAlchemy's expressions outside of a dialect's package, so that any text of SQL counts, too.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

NAME: Final = re.compile(
    r"postgres|asyncpg|psycopg|mysql|mariadb|sqlite|(?<![a-z])pg_|(?<![a-z])pg(?![a-z0-9])", re.IGNORECASE
)
"""A database, one of its drivers, or what it calls its own."""

SQL: Final = re.compile(
    r"""
    \w::[a-z] | \bON\ CONFLICT\b | \bON\ DUPLICATE\ KEY\b | \bINSERT\ (IGNORE|OR)\b | \bREPLACE\ INTO\b
    | \bSKIP\ LOCKED\b | \bFOR\ UPDATE\b | \bSET\ (LOCAL|SESSION|STATEMENT|TRANSACTION)\b | \bBEGIN\ IMMEDIATE\b
    | \bPRAGMA\ \w | \bSHOW\ (CREATE|TABLE|VARIABLES|STATUS|GLOBAL) | \binformation_schema\b | \bLANGUAGE\ plpgsql\b
    | \bjsonb\b | \bregclass\b | \bctid\b | \bxmin\b | \browid\b | \bgenerate_series\b | \bunnest\( | \bILIKE\b
    | \b(GET|RELEASE)_LOCK\( | \bjson_(each|table|build_object)\b | \b(row_count|last_insert_id|changes)\(\)
    | \b(SELECT\ .+\ FROM|INSERT\ INTO|UPDATE\ \w+\ SET|DELETE\ FROM|CREATE\ (TABLE|INDEX|TRIGGER|FUNCTION))\b
    """,
    re.VERBOSE,
)
"""Words of SQL, in the capitals that SQL is written with here, and functions that one database alone has."""

FUNCTIONS: Final = frozenset(
    {"avg", "coalesce", "count", "false", "lag", "lead", "length", "lower", "max", "min", "row_number", "sum", "true"}
)
"""Functions of SQL that every database has, as `sqlalchemy.func` spells them."""

RAW: Final = frozenset({"DDL", "exec_driver_sql", "literal_column", "prefix_with", "suffix_with", "text", "with_hint"})
"""What takes SQL as text, or words of it."""

ASKING: Final = frozenset({"backend_name", "ddl_if", "drivername", "get_backend_name", "get_dialect", "with_variant"})
"""What asks which database it is, or says something to one of them."""

PROBE: Final = "SELECT 1"
"""The one text of SQL that is the same everywhere."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """Something that is for one database only.

    Attributes:
        line: where, from 1.
        what: it is.
    """

    line: int
    what: str


def find_dialect_words(source: str) -> list[Finding]:
    """What of a module is for one database only, line by line."""
    tree = ast.parse(source)
    return sorted(set(_Search(tree).findings()))


class _Search:
    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._prose = set(_prose(tree))
        self._raw = {name for name in _imported(tree) if name in RAW}

    def findings(self) -> Iterator[Finding]:
        for node in ast.walk(self._tree):
            for what in self._of(node):
                yield Finding(getattr(node, "lineno", 1), what)

    def _of(self, node: ast.AST) -> Iterator[str]:
        for name in _identifiers(node):
            if NAME.search(name):
                yield f"the name {name}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in self._prose:
            yield from _of_text(node.value)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sqlalchemy.dialects"):
            yield f"an import from {node.module}"
        if isinstance(node, ast.Attribute):
            yield from _of_attribute(node)
        if isinstance(node, ast.Call):
            yield from self._of_call(node)

    def _of_call(self, node: ast.Call) -> Iterator[str]:
        function = node.func
        method = function.attr if isinstance(function, ast.Attribute) else None
        bare = function.id if isinstance(function, ast.Name) else None
        probe = [ast.unparse(argument) for argument in node.args] == [repr(PROBE)]
        if (bare in self._raw or method in RAW) and not probe:
            yield f"SQL as text, by {bare or method}"
        if method == "returning":
            yield "returning, which not every database has for every statement"
        if method == "op" and node.args and isinstance(node.args[0], ast.Constant):
            yield f"the operator {ast.unparse(node.args[0])}"


def _of_text(value: str) -> Iterator[str]:
    if found := NAME.search(value):
        yield f"the name {found[0]} in a text"
    if found := SQL.search(value):
        yield f"the SQL {found[0]!r} in a text"


def _of_attribute(node: ast.Attribute) -> Iterator[str]:
    owner = ast.unparse(node.value)
    if node.attr in ASKING or (node.attr in {"name", "driver"} and owner.rpartition(".")[2] == "dialect"):
        yield f"the question {owner}.{node.attr}"
    if owner.rpartition(".")[2] == "func" and node.attr not in FUNCTIONS:
        yield f"the function {node.attr} of SQL"


def _identifiers(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.keyword(arg=str(name)):
            yield name
        case ast.alias(name=name, asname=other):
            yield name
            yield other or ""
        case ast.ImportFrom(module=str(name)):
            yield name
        case _:
            return


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("sqlalchemy", "sqlmodel")):
            yield from (alias.asname or alias.name for alias in node.names)


def _prose(tree: ast.Module) -> Iterator[int]:
    """The texts that say something to a reader only: docstrings, those of attributes, and a setting's examples."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield id(node.value)
        if isinstance(node, ast.keyword) and node.arg == "examples":
            yield from (id(inner) for inner in ast.walk(node.value))
