"""What keeps the books from being edited, as a statement that each dialect compiles its own way.

Owns the two elements that the migration executes. A dialect that does not compile them cannot have books: SQLAlchemy
refuses the migration there, by name.
"""

from sqlalchemy.sql.ddl import ExecutableDDLElement


class GuardBooks(ExecutableDDLElement):
    """Make the database refuse every change of the books but new rows, and entries of a transfer that do not cancel."""


class UnguardBooks(ExecutableDDLElement):
    """Take the guard away, before the tables are dropped."""
