"""Checks that calculate with money: a database whose money is text compiles each its own way, by its name.

Owns the construct. On every other database it is a check like any other.
"""

from sqlalchemy import CheckConstraint


class MoneyCheck(CheckConstraint):
    """A named check whose text compares amounts, or adds them up."""
