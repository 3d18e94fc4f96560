"""What keeps the audit trail of moved rows from being edited, as a statement that each dialect compiles its own way.

Owns the two elements that the migration executes. SQLAlchemy refuses the migration on a dialect that does not compile
them, by name: an audit trail that can be edited is none.
"""

from sqlalchemy.sql.ddl import ExecutableDDLElement


class GuardMoves(ExecutableDDLElement):
    """Make the database refuse every change of `heavylift_moves` but new rows."""


class UnguardMoves(ExecutableDDLElement):
    """Take the guard away."""
