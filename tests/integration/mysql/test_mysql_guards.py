"""What keeps the books and the audit trail from being edited on MariaDB, and what it cannot keep off."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.support.mariadb_hand import run_on
from worker.core.errors import ErrorKind
from worker.database.classify import classify
from worker.database.engine import Database
from worker.database.ledger import Ledger
from worker.database.mysql.errors import MYSQL_ERRORS, number_of

HEADER = """
INSERT INTO heavylift_transfers (idempotency_key, request_hash, accounts_table, money_column, from_account, to_account,
                                 amount, reason, actor, run_id)
VALUES ('k', 'h', 'account', 'balance', '1', '2', 5, '', '', 'r')
"""
ENTRIES = """
INSERT INTO heavylift_entries (accounts_table, money_column, account, version, idempotency_key, kind, amount,
                               balance_before, balance_after)
VALUES ('account', 'balance', '1', 2, 'k', 'debit', -5, 9, 4), ('account', 'balance', '2', 2, 'k', 'credit', 5, 0, 5)
"""
REFUSAL = "INSERT INTO heavylift_refusals (idempotency_key, code, message) VALUES ('k', 'c', 'm')"
MOVE = """
INSERT INTO heavylift_moves (run_id, table_name, row_key, column_name, reason, actor)
VALUES ('r', 't', '{}', 'c', '', '')
"""


@pytest.fixture
async def books(ledger: Ledger, own_url: str) -> Database:
    """A ledger with a transfer, and a moved row."""
    await run_on(own_url, HEADER, ENTRIES, REFUSAL, MOVE)
    return ledger.database


async def kind_of(database: Database, statement: str) -> tuple[int | None, ErrorKind]:
    """The number and the kind of the error that a statement meets."""
    async with database.engine.connect() as connection:
        with pytest.raises(DBAPIError) as caught:
            await connection.execute(text(statement))
    return number_of(caught.value.orig), classify(caught.value, MYSQL_ERRORS)


@pytest.mark.parametrize("table", ["heavylift_transfers", "heavylift_entries", "heavylift_refusals", "heavylift_moves"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET created_at = created_at", "DELETE FROM {}"])
async def test_rows_are_only_added(books: Database, table: str, statement: str) -> None:
    """To change or delete one is refused for good: it is about no row."""
    edit = statement.format(table).replace("created_at", "moved_at" if table.endswith("moves") else "created_at")
    assert await kind_of(books, edit) == (1142, ErrorKind.PERMANENT)


async def test_headers_are_not_truncated(books: Database) -> None:
    """Other tables refer to them."""
    assert await kind_of(books, "TRUNCATE heavylift_transfers") == (1701, ErrorKind.PERMANENT)


async def test_entries_that_do_not_cancel_out_are_refused(books: Database) -> None:
    """By the second of them, in one statement or in two."""
    header = HEADER.replace("'k'", "'l'")
    entries = ENTRIES.replace("'k'", "'l'").replace("2, 'l'", "3, 'l'").replace("5, 0, 5", "6, 0, 6")
    async with books.engine.connect() as connection:
        await connection.execute(text(header))
        with pytest.raises(DBAPIError) as caught:
            await connection.execute(text(entries))
    assert classify(caught.value, MYSQL_ERRORS) is ErrorKind.REFUSED_ROW
    assert number_of(caught.value.orig) == 1644


async def test_guards_that_stand_are_not_missed(books: Database) -> None:
    """As they were made."""
    async with books.reading() as connection:
        assert await books.dialect.missing_guards(connection) == []


async def test_missing_and_changed_guards_are_told(books: Database, own_url: str) -> None:
    """By name."""
    await run_on(
        own_url,
        "DROP TRIGGER heavylift_entries_no_delete",
        "CREATE OR REPLACE TRIGGER heavylift_refusals_no_update BEFORE UPDATE ON heavylift_refusals FOR EACH ROW DO 1",
    )
    async with books.reading() as connection:
        gone, other = await books.dialect.missing_guards(connection)
    assert gone.startswith("trigger heavylift_entries_no_delete of heavylift_entries is gone")
    assert other == "trigger heavylift_refusals_no_update of heavylift_refusals is another one than heavylift made"
