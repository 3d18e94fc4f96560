"""Every page under docs/ does what it says: its files, commands and statements are run, in order, by a reader."""

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.docs.conftest import MakeReader
from tests.support.pages import Page

DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(DOCS)): Page(path.read_text()) for path in sorted(DOCS.rglob("*.md"))}
FOLLOWED = [name for name, page in PAGES.items() if any(block.runs for block in page.blocks)]

NOT_RUN = {
    "mermaid": "a drawing",
    "conf": "for a server's configuration, tried by test_redis_page",
    "acl": "for a server's list of users, tried by test_redis_page",
}
"""Languages of blocks that are not run, each with the reason."""

NOTHING_TO_RUN = {
    "complaints.md": "names of tests, looked up by test_complaints",
    "pitfalls.md": "names of tests, looked up by test_pitfalls",
    "redis.md": "addresses and a server's settings, tried by test_redis_page",
    "README.md": "an index: its links are followed below",
    "arq-differences.md": "a table, held against arq's own tests by `make arqtests`",
    "databases.md": "a table: what it says is shown by the tests of each dialect",
    "chaos.md": "names of tests, looked up by test_chaos_page",
    "errors.md": "a table, compared with the code by test_pages",
    "life-of-a-run.md": "a chart, compared with the code by test_pages",
    "queue.md": "prose and a table: what it says is shown by the tests that complaints.md names",
}
"""Pages without a block that is run, each with the reason."""

_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("name", FOLLOWED)
async def test_a_page_does_what_it_says(name: str, reader_of: MakeReader) -> None:
    """Every file, command and statement of a page works, and prints what the page shows."""
    await reader_of(PAGES[name]).follow()


def test_every_block_is_run_or_excused() -> None:
    """No block of any page is passed over without a reason, and no reason is left over."""
    passed_over = {block.language for page in PAGES.values() for block in page.blocks if not block.runs}
    assert passed_over == set(NOT_RUN)


def test_every_page_is_followed_or_excused() -> None:
    """No page is without a test, and no excuse is left over."""
    assert set(PAGES) - set(FOLLOWED) == set(NOTHING_TO_RUN)


@pytest.mark.parametrize("path", [*(DOCS / name for name in PAGES), ROOT / "README.md"], ids=str)
def test_links_lead_somewhere(path: Path) -> None:
    """A link of a page to another file names one that exists."""
    links = [link for link in _LINK.findall(path.read_text()) if "://" not in link]
    missing = [link for link in links if not (path.parent / link).exists()]
    assert not missing


def test_the_index_names_every_page() -> None:
    """Nobody has to list a folder to find a page."""
    linked = set(_LINK.findall(PAGES["README.md"].text))
    assert linked >= set(PAGES) - {"README.md"}
