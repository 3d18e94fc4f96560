"""The page on `where`: each example finds the rows that it says, and what is refused is refused in those words."""

import json
import re
from datetime import UTC, datetime

import pytest
from sqlalchemy import MetaData, Table, select
from sqlalchemy.ext.asyncio import create_async_engine

from tests.conftest import ROOT
from tests.docs.conftest import MakeReader
from tests.support.pages import Page, text_fits
from worker.core.errors import RequestError, WhereError
from worker.core.where import DEEPEST, MOST_CHOICES, MOST_CONDITIONS, OPERATORS, parse_where
from worker.database.engine import Database
from worker.run.where import where_clause

PAGE = Page((ROOT / "docs" / "where.md").read_text())
FOUND = re.findall(r"^\| `(\{.*?\})` \| ([\d, ]+) \|", PAGE.text, re.MULTILINE)
REFUSED = re.findall(r"^\| `(\{.*?\})` \| ([^\d\n].*) \|$", PAGE.text, re.MULTILINE)


async def test_each_example_finds_what_the_page_says(reader_of: MakeReader, database: Database) -> None:
    """Every example of the page is run on the page's table, or refused in the page's words."""
    reader = reader_of(PAGE)
    for block in PAGE.blocks:
        await reader.do(block)
    engine = create_async_engine(reader.settings["DATABASE_URL"])
    async with engine.connect() as connection:
        tickets = await connection.run_sync(lambda sync: Table("tickets", MetaData(), autoload_with=sync))
        facts = await database.dialect.table_facts(connection, tickets)

        async def rows(where: str) -> list[int]:
            clause = where_clause(parse_where(json.loads(where)), tickets, facts, datetime.now(UTC))
            return list((await connection.execute(select(tickets.c.id).where(clause).order_by("id"))).scalars())

        assert {where: await rows(where) for where, _ in FOUND} == {
            where: [int(id_) for id_ in ids.split(",")] for where, ids in FOUND
        }
        for where, message in REFUSED:
            with pytest.raises(RequestError) as caught:
                await rows(where)
            assert text_fits(message, str(caught.value)), caught.value
    await engine.dispose()


def test_every_operator_has_an_example() -> None:
    """No operator is missing from the page."""
    assert set(re.findall(r'"(\w+)": ', " ".join(where for where, _ in FOUND))) >= {*OPERATORS, "and", "or", "not"}


def test_the_bounds_are_the_codes() -> None:
    """The page's bounds are those that are kept."""
    assert f"has {MOST_CONDITIONS} comparisons at most, each `in` {MOST_CHOICES:,} values" in PAGE.text
    assert f"nested {DEEPEST} levels deep" in PAGE.text
    with pytest.raises(WhereError, match="too large"):
        parse_where({"or": [{"id": {"eq": n}} for n in range(MOST_CONDITIONS + 1)]})
