"""Somebody who does what a page says, in a folder and a database of their own, with a worker that runs meanwhile.

Owns files, processes and statements. What is printed is compared with what the page shows of it; a command that fails
where the page does not say so is a fault of the page.
"""

import asyncio
import json
import shlex
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import CursorResult, text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.support.forge import Done, Forge
from tests.support.pages import Block, Page, commands, fits, text_fits

DONE_ALREADY = (["heavylift", "run"], ["heavylift", "migrate"], ["export"])
"""How commands begin that a place has behind it: its worker runs, its ledger is there, its settings are set."""

SERVERS = frozenset({"DATABASE_URL", "REDIS_URL"})
"""Settings that a page may export, and that are this place's own all the same."""

_TABLES = """\
import asyncio, importlib, os, sys
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import SQLModel

async def main():
    for module in sys.argv[1:]:
        importlib.import_module(module)
    engine = create_async_engine(os.environ["DATABASE_URL"])
    async with engine.begin() as connection:
        await connection.run_sync(SQLModel.metadata.create_all)
    await engine.dispose()

asyncio.run(main())
"""


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody who follows a page.

    Attributes:
        forge: of processes.
        environment: of a worker for a database and a Redis that nobody else uses.
        folder: empty; everything is started in it.
        page: what is followed.
    """

    forge: Forge
    environment: dict[str, str]
    folder: Path
    page: Page
    settings: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        models = [name for name in self.page.modules if name.endswith("models")]
        jobs = [name for name in self.page.modules if name.endswith("jobs")]
        chosen = {"WORKER_MODELS": ",".join(models), "WORKER_JOBS": ",".join(["jobs", *jobs])}
        # a page's servers are examples; those of this place are used
        exported = {name: value for name, value in self.page.exports.items() if name not in SERVERS}
        object.__setattr__(self, "settings", {**self.environment, **chosen, **exported})

    async def follow(self) -> None:
        """Do everything that the page says, from top to bottom.

        Raises:
            AssertionError: something ends or prints otherwise than the page says.
        """
        blocks = self.page.blocks
        # what stands before the worker's start is done before it: a table that it is to find must be there
        start = next((at for at, block in enumerate(blocks) if ["heavylift", "run"] in list(commands(block))), 0)
        await self.prepare()
        for block in blocks[:start]:
            await self.do(block)
        async with self.worker():
            for block in blocks[start:]:
                await self.do(block)

    async def prepare(self) -> None:
        """Write the page's modules, and make the tables of its models."""
        for block in self.page.blocks:
            if block.name.endswith(".py"):
                self._write(block)
        models = [name for name in self.settings["WORKER_MODELS"].split(",") if name]
        if models:
            program = self.folder / "make_tables.py"
            program.write_text(_TABLES)
            done = await self.call(["python", program.name, *models])
            assert done.code == 0, done.errors

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """The page's worker, for as long as the block lasts."""
        log = self.folder / "worker.log"
        async with self.forge.worker(self.settings, log, folder=self.folder) as worker:
            while b"worker_started" not in log.read_bytes():
                assert b"error:" not in log.read_bytes(), worker.tail()
                await asyncio.sleep(0.01)
            yield
            worker.send_signal(signal.SIGTERM)
            assert await worker.ended() == 0, worker.tail()

    async def do(self, block: Block) -> None:
        """Do what one block says.

        Raises:
            AssertionError: it ends or prints otherwise than the page says.
        """
        if block.name:
            # modules are there from the beginning, for the worker
            if not block.name.endswith(".py"):
                self._write(block)
        elif block.language == "sh":
            await self._type(block)
        elif block.language == "sql":
            _compare(block, await self._send(block.code))

    async def call(self, words: Sequence[str]) -> Done:
        """Run one command to its end."""
        if words[0] in {"heavylift", "pytest", "python"}:
            return await self.forge.call(self.settings, self.folder, words)
        done = subprocess.run(words, env=self.settings, cwd=self.folder, capture_output=True, text=True, check=False)
        return Done(done.returncode, done.stdout, done.stderr)

    def _write(self, block: Block) -> None:
        path = self.folder / block.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if block.more else "w") as file:
            file.write(f"\n\n{block.code}" if block.more else block.code)

    async def _type(self, block: Block) -> None:
        printed, last = "", 0
        for words in commands(block):
            if is_done_already(words):
                continue
            assert last == 0, f"line {block.line}: a command before {words} failed: {printed}"
            done = await self.call([await self._substituted(word) for word in words])
            # progress and notes are for the person who waits: what the page shows as JSON is standard output
            printed += done.output if block.shown_as == "json" else f"{done.output}\n{done.errors}"
            last = done.code
            assert last == 0 or block.fails, f"line {block.line}: {words} failed: {done.output}{done.errors}"
        assert bool(last) == block.fails, f"line {block.line} should have failed, and printed {printed}"
        _compare(block, printed)

    async def _substituted(self, word: str) -> str:
        """A word, or what the command prints that it is: `"$(heavylift quarantine ID --replay)"`."""
        if not word.startswith("$("):
            return word
        done = await self.call(shlex.split(word[2:-1]))
        assert done.code == 0, f"{word} failed: {done.errors}"
        return done.output.strip()

    async def _send(self, statement: str) -> str:
        engine = create_async_engine(self.settings["DATABASE_URL"])
        try:
            async with engine.begin() as connection:
                found = await connection.execute(text(statement))
                return _as_table(found) if found.returns_rows else ""
        finally:
            await engine.dispose()


def is_done_already(words: Sequence[str]) -> bool:
    """Whether a command is one that a reader's place has behind it."""
    return any(words[: len(start)] == start for start in DONE_ALREADY)


def _as_table(found: CursorResult[*tuple[object, ...]]) -> str:
    """Rows as psql shows them, without the line below the header."""
    return "\n".join([" | ".join(found.keys()), *(" | ".join(map(_shown, row)) for row in found)])


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "t" if value else "f"
    return "" if value is None else str(value)


def _compare(block: Block, printed: str) -> None:
    if block.shown is None:
        return
    if block.shown_as == "json":
        as_shown = fits(json.loads(block.shown), json.loads(printed))
    else:
        shown = "\n".join(line for line in block.shown.splitlines() if not set(line) <= set("-+ ") or not line)
        as_shown = text_fits(shown, printed)
    assert as_shown, f"line {block.line} prints\n{printed}\nand not\n{block.shown}"
