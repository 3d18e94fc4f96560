"""The README does what it says: its files, its commands and its programs are run, in order, as a reader would."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from tests.conftest import ROOT
from tests.docs.conftest import MakeReader
from tests.support.pages import Page
from tests.support.reader import Reader, is_done_already
from worker.core.settings import Settings, _variable

README = Page((ROOT / "README.md").read_text())
ORDERS = "id,status,created_at\n7,open,2020-01-01T00:00:00Z\n8,open,2020-01-01T00:00:00Z\n"

NOT_RUN = {
    "make demo": "takes a minute and installs: CI and people run it, and `heavylift demo` has tests of its own",
    "make test": "it is what runs this test",
}
"""Commands of the README that this test does not run, each with the reason."""


@pytest.fixture
async def reader(reader_of: MakeReader) -> AsyncIterator[Reader]:
    """Somebody who has written the README's files and started its worker."""
    reader = reader_of(README)
    Path(reader.folder, "orders.csv").write_text(ORDERS)
    await reader.prepare()
    async with reader.worker():
        yield reader


async def test_every_command_runs(reader: Reader) -> None:
    """Each command of the README exits with 0."""
    typed = [words for words in README.commands if " ".join(words) not in NOT_RUN and not is_done_already(words)]
    assert len(typed) >= 3, "the README lost its commands"
    for words in typed:
        # the one path of the README that a reader must make their own
        done = await reader.call([word.replace("file:///data/", reader.folder.as_uri() + "/") for word in words])
        assert done.code == 0, f"{words}: {done.output}{done.errors}"


@pytest.mark.parametrize("name", ["enqueue_plain.py", "enqueue_json.py"])
async def test_plain_arq_enqueues_and_gets_the_counts(name: str, reader: Reader, redis_url: str) -> None:
    """The programs with plain arq, unconfigured and with our codec, print the counts of their one row."""
    program = Path(reader.folder, name)
    written = program.read_text()
    program.write_text(written.replace("RedisSettings()", f"RedisSettings.from_dsn({redis_url!r})"))
    assert program.read_text() != written
    done = await reader.call(["python", name])
    assert "'read': 1, 'inserted': 1" in done.output, done.errors


async def test_the_client_enqueues_and_waits(reader: Reader) -> None:
    """The program with our client closes the orders that are stale, and says how many."""
    rows = '{"rows": [{"id": 1, "status": "open", "created_at": "2020-01-01T00:00:00Z"}]}'
    params = f'{{"table": "orders", "source": {rows}}}'
    enqueued = await reader.call(["heavylift", "enqueue", "bulk_upsert", params, "--wait"])
    assert enqueued.code == 0, enqueued.errors
    done = await reader.call(["python", "enqueue_client.py"])
    assert done.output.split() == ["succeeded", "1"], done.errors


async def test_the_client_enqueues_many(reader: Reader) -> None:
    """The program that enqueues three runs in one call prints how each ended, in the order asked for."""
    done = await reader.call(["python", "enqueue_many.py"])
    assert done.output.splitlines() == [f"{{'older_than_days': {days}}} succeeded" for days in (365, 90, 30)], (
        done.errors
    )


def test_settings_table_is_the_model() -> None:
    """The README lists every setting with its default and meaning, as the model has them."""
    listed = re.search(r"^\| setting [^\n]*\n((?:\|[^\n]*\n)+)", README.text, re.MULTILINE)
    assert listed is not None
    assert listed[1] == settings_rows()


def settings_rows() -> str:
    """The rows of the README's settings table, made from the model."""
    rows = ["|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        shown = "" if default is None or default is PydanticUndefined or default in ((), {}) else _shown(default)
        rows.append(f"| `{_variable(name)}` | {shown} | {field.description} |")
    return "".join(f"{row}\n" for row in rows)


def _shown(default: object) -> str:
    if isinstance(default, tuple):
        return ",".join(f"`{part}`" for part in default)
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"
