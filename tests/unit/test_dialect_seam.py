"""What is for one database only stands in that database's package, and the rest does not ask which one it is."""

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.support.seam import find_dialect_words

TOP = Path(__file__).parents[2]

PACKAGES = ("postgres", "mysql", "sqlite")
"""Of `worker.database`, each the only one that knows its database."""

OWN = (*(f"worker/database/{name}/*" for name in PACKAGES), "worker/database/dialects.py", "worker/embedded/*")
"""What knows one database: its package, the list of them, and the embedded servers, which are a PostgreSQL."""

LAID_OUT = r"the name (postgresql|mysql|mariadb|sqlite)_\w+"
"""How a table is laid out, which SQLAlchemy tells the database that is meant and no other."""

ALLOWED = {
    # starting the embedded one
    "worker/cli/servers.py": "the name postgres",
    "worker/database/migrations/versions/*": LAID_OUT,
    "worker/database/*tables.py": LAID_OUT,
    # sends what a database's package compiles
    "worker/database/guards.py": "SQL as text, by exec_driver_sql",
}
"""What generic code may say all the same, by file."""


def generic_modules() -> Iterator[tuple[str, str]]:
    """Name and source of each module that is for every database."""
    for folder in ("worker", "jobs"):
        for path in sorted((TOP / folder).rglob("*.py")):
            name = path.relative_to(TOP).as_posix()
            if not any(fnmatch(name, own) for own in OWN):
                yield name, path.read_text()


def test_generic_code_is_for_every_database() -> None:
    """No module outside of a database's package names a database, asks which it is, or writes SQL of its own."""
    found = [
        f"{name}:{finding.line}: {finding.what}"
        for name, source in generic_modules()
        for finding in find_dialect_words(source)
        if not any(fnmatch(name, files) and re.fullmatch(what, finding.what) for files, what in ALLOWED.items())
    ]
    assert found == []


def test_packages_of_databases_are_apart() -> None:
    """No database's package imports another one's: what they share is generic and stands above them."""
    found = []
    for package in PACKAGES:
        others = tuple(f"worker.database.{other}" for other in PACKAGES if other != package)
        for path in sorted((TOP / "worker/database" / package).glob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                found += [f"{path.relative_to(TOP)}: {module}" for module in modules if module.startswith(others)]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        'if dialect.name == "lite":\n    pass',
        "if self.engine.dialect.name in names:\n    pass",
        "if url.get_backend_name() == name:\n    pass",
        "if url.drivername.startswith(name):\n    pass",
        'kind = "sqlite"',
        'kind = f"{name}+aiosqlite"',
        "is_mysql = True",
        "from worker.database.mysql.dialect import MySql",
        "import asyncpg",
        "from sqlalchemy.dialects import oracle",
        'Table("a", METADATA, mariadb_engine="InnoDB")',
        'event.listen(table, "after_create", ddl.execute_if(dialect="postgresql"))',
        'query = "SELECT pg_backend_pid()"',
        'from sqlalchemy import text\nstatement = text("SELECT payload::jsonb FROM heavylift_runs")',
        'import sqlalchemy as sa\nstatement = sa.text("SELECT 1 + 1")',
        'payload = f"{column}::jsonb"',
        'ON = "INSERT INTO a VALUES (1) ON CONFLICT DO NOTHING"',
        'connection.exec_driver_sql("VACUUM")',
        'from sqlalchemy import literal_column\nnow = literal_column("now()")',
        'column = Column("a", Text().with_variant(LONGTEXT(), name))',
        "rows = func.json_each(column)",
        "rows = sqlalchemy.func.unnest(column)",
        "statement = update(RUNS).values(a=1).returning(RUNS.c.id)",
        'both = column.op("@>")(other)',
        'statement = select(a).prefix_with("STRAIGHT_JOIN")',
        'SOURCE = "generate_series"',
        "LOCK = \"GET_LOCK('a', 1)\"",
        'name = "PRAGMA foreign_keys"',
        "def of_postgres() -> None: ...",
        "def connect(*, pg_dsn: str) -> None: ...",
    ],
)
def test_what_is_for_one_database_is_found(source: str) -> None:
    """Each of the ways in which somebody might write it."""
    assert find_dialect_words(source)


@pytest.mark.parametrize(
    "source",
    [
        '"""What PostgreSQL does, for example ON CONFLICT, and SQLite does not."""',
        'LIMIT = 5\n"""MariaDB has a limit of its own."""',
        "# asyncpg has UUIDs of its own\nvalue = 1",
        'url: str = Field(examples=["postgresql+asyncpg://user@localhost/app"])',
        'from sqlalchemy import text\nawait connection.execute(text("SELECT 1"))',
        "text(value)",
        "found = database.dialect.table_facts(connection, table)",
        "name = job.name + dialect_of(table).word",
        "locked = select(RUNS.c.id).with_for_update(key_share=True)",
        "total = func.coalesce(func.sum(column), 0)",
        'message = "Update the rows, delete from the source, and insert into the table again"',
        'shown = f"{a}:{b}"',
        'message = "upgrade_pgp and shipping are other words"',
    ],
)
def test_what_is_for_every_database_is_not_found(source: str) -> None:
    """Prose, examples and expressions that SQLAlchemy spells for each database."""
    assert find_dialect_words(source) == []
