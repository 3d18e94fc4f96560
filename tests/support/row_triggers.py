"""Triggers for each row, as each database writes them: they object to rows, leave them out, or note them.

Owns their text. A condition is over NEW or OLD, which are called so everywhere. MariaDB has none that leaves rows out.
"""

from typing import Literal

from tests.support.chosen import Backend

Change = Literal["INSERT", "UPDATE", "DELETE"]


def object_to(backend: Backend, table: str, change: Change, condition: str, words: str = "no") -> list[str]:
    """Statements that make a trigger `object`, which refuses rows with some words."""
    if backend == "postgresql":
        return _function("object", f"IF {condition} THEN RAISE EXCEPTION '{words}'; END IF", table, change)
    if backend == "sqlite":
        raised = f"SELECT RAISE(ABORT, '{words}') WHERE {condition}"
        return [f"CREATE TRIGGER object BEFORE {change} ON {table} FOR EACH ROW BEGIN {raised}; END"]
    signal = f"IF {condition} THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{words}'; END IF"
    return [f"CREATE TRIGGER object BEFORE {change} ON {table} FOR EACH ROW {signal}"]


def swallow(backend: Backend, table: str, change: Change, condition: str) -> list[str]:
    """Statements that make a trigger `swallow`, which leaves rows out without a word."""
    if backend == "postgresql":
        return _function("swallow", f"IF {condition} THEN RETURN NULL; END IF", table, change)
    assert backend == "sqlite", "a trigger of MariaDB's leaves nothing out"
    ignored = f"SELECT RAISE(IGNORE) WHERE {condition}"
    return [f"CREATE TRIGGER swallow BEFORE {change} ON {table} FOR EACH ROW BEGIN {ignored}; END"]


def note(backend: Backend, table: str, change: Change = "UPDATE") -> list[str]:
    """Statements that make a table `noted`, and a trigger that puts the `id` of each changed row there."""
    noted, insertion = "CREATE TABLE noted (id int)", "INSERT INTO noted (id) VALUES (NEW.id)"
    if backend == "postgresql":
        return [noted, *_function("note", insertion, table, change)]
    action = f"BEGIN {insertion}; END" if backend == "sqlite" else insertion
    return [noted, f"CREATE TRIGGER note AFTER {change} ON {table} FOR EACH ROW {action}"]


def lower(backend: Backend, table: str, column: str) -> list[str]:
    """Statements that make a trigger `lower`, which stores a cent less in a column than an update gives it."""
    if backend == "postgresql":
        return _function("lower", f"NEW.{column} := NEW.{column} - 0.01", table, "UPDATE")
    if backend == "mariadb":
        return [f"CREATE TRIGGER lower BEFORE UPDATE ON {table} FOR EACH ROW SET NEW.{column} = NEW.{column} - 0.01"]
    # its triggers cannot change the row, but write it again
    again = f"UPDATE {table} SET {column} = {column} - 0.01 WHERE id = NEW.id"
    return [f"CREATE TRIGGER lower AFTER UPDATE ON {table} FOR EACH ROW BEGIN {again}; END"]


def _function(name: str, body: str, table: str, change: Change) -> list[str]:
    row = "OLD" if change == "DELETE" else "NEW"
    return [
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN {row}; END $$",
        f"CREATE TRIGGER {name} BEFORE {change} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()",
    ]
