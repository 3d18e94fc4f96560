"""The check of the books: every rule looked at in one snapshot, with the first few rows that break each.

Owns what is checked and how a broken rule is told. Changes nothing. Its memory does not grow with the books.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from worker.core.errors import RequestError
from worker.core.transfer_terms import book_terms
from worker.core.transfers import Kind
from worker.database.book_statements import account_columns
from worker.database.dialect import Dialect
from worker.database.engine import Database
from worker.database.transfer_rules import Rule, balance_rule, rules
from worker.database.transfer_tables import BOOKS, ENTRIES, TRANSFERS
from worker.declare.tables import Tables

SHOWN: Final = 5
"""How many of the rows that break a rule are told."""


@dataclass(frozen=True, slots=True)
class CheckedRule:
    """What a look at one rule found.

    Attributes:
        name: for machines.
        title: the rule, as a sentence about books that are in order.
        of: what was looked at: `transfers`, `entries`, `accounts` or `tables`.
        looked_at: how many.
        broken: how many break the rule.
        findings: the first few of these, a line each.
    """

    name: str
    title: str
    of: str
    looked_at: int
    broken: int
    findings: tuple[str, ...]


async def check_books(database: Database, tables: Tables) -> list[CheckedRule]:
    """Look at every rule of the books.

    Args:
        database: where they are. Its statements may take long: the whole of the books is read.
        tables: the registered ones: the accounts' among them, whose balances are compared.
    """
    dialect = database.dialect
    async with database.reading() as connection:
        # one snapshot: transfers may go on meanwhile, and each is in all that is read, or in nothing of it
        await connection.execution_options(**dialect.snapshot_options)
        counts = await _count(connection)
        checked = [await _check(connection, rule, counts[rule.of]) for rule in rules(dialect.request_hash(TRANSFERS))]
        checked += await _check_balances(connection, dialect, tables)
        guards = await dialect.missing_guards(connection)
    title = "the database refuses every edit of the books"
    return [*checked, CheckedRule("guarded", title, "tables", len(BOOKS), len(guards), tuple(guards))]


async def _count(connection: AsyncConnection) -> dict[str, int]:
    opened = ENTRIES.c.kind == Kind.OPENING.value
    counts = {
        "transfers": select(func.count()).select_from(TRANSFERS),
        "entries": select(func.count()).select_from(ENTRIES),
        "accounts": select(func.count()).select_from(ENTRIES).where(opened),
    }
    return {name: (await connection.execute(count)).scalar_one() for name, count in counts.items()}


async def _check(connection: AsyncConnection, rule: Rule, looked_at: int) -> CheckedRule:
    broken = (await connection.execute(select(func.count()).select_from(rule.broken_by.subquery()))).scalar_one()
    findings: list[str] = []
    if broken:
        rows = (await connection.execute(rule.broken_by.limit(SHOWN))).mappings()
        findings = [rule.told.format_map(row) for row in rows]
    return CheckedRule(rule.name, rule.title, rule.of, looked_at, broken, tuple(findings))


async def _check_balances(connection: AsyncConnection, dialect: Dialect, tables: Tables) -> list[CheckedRule]:
    """Compare the books of each table with the table."""
    book = (ENTRIES.c.accounts_table, ENTRIES.c.money_column)
    openings = func.sum(case((ENTRIES.c.kind == Kind.OPENING.value, 1), else_=0))
    books = await connection.execute(select(*book, openings).group_by(*book).order_by(*book))
    checked = []
    for table, column, opened in books:
        # a sum is a decimal number on some databases
        accounts = int(opened)
        try:
            target = tables.get(table).table
            terms = book_terms(await dialect.table_facts(connection, target), column)
            key, _ = account_columns(target, terms)
        except RequestError as problem:
            title = f"each account holds in {table}.{column} what its books end at"
            why = f"could not be compared: {problem}"
            checked.append(CheckedRule(f"balances of {table}.{column}", title, "accounts", accounts, accounts, (why,)))
            continue
        rule = balance_rule(target, terms, dialect.account_text(key))
        checked.append(await _check(connection, rule, accounts))
    return checked
