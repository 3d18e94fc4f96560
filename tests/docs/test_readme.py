"""The README does what it says: its files, its commands and its programs are run, in order, as a reader would."""

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from tests.conftest import ROOT
from worker.core.settings import Settings, _variable

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
FILES = {match[1]: code for kind, code in BLOCKS if kind == "python" and (match := re.match(r"# (\S+\.py)\n", code))}
SHELL = [code for kind, code in BLOCKS if kind == "sh"]

NOT_RUN = {
    "make demo": "takes a minute and installs: CI and people run it, and `heavylift demo` has tests of its own",
    "make test": "it is what runs this test",
    "export": "names a reader's own servers; the test exports those of its own",
    "heavylift run": "does not end: the fixture starts it, and stops it",
}
"""Commands of the README that this test does not run as they stand, each with the reason."""


def commands() -> Iterator[str]:
    """Each line of the README's shell blocks, without its comment."""
    for block in SHELL:
        for line in block.splitlines():
            command = re.split(r"\s+#\s", line)[0].strip()
            if command and not any(f"{command} ".startswith(f"{name} ") for name in NOT_RUN):
                yield command


@pytest.fixture
def shop(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """A folder with the README's files, its tables in the database, and the environment that it describes."""
    for name, code in FILES.items():
        (tmp_path / name).write_text(code)
    (tmp_path / "orders.csv").write_text(
        "id,status,created_at\n7,open,2020-01-01T00:00:00Z\n8,open,2020-01-01T00:00:00Z\n"
    )
    environment |= {
        "WORKER_MODELS": "shop_models",
        "WORKER_JOBS": "jobs,shop_jobs",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}",
    }
    make_tables = (
        "import asyncio, os, shop_models\nfrom sqlalchemy.ext.asyncio import create_async_engine\n"
        "from sqlmodel import SQLModel\n"
        "async def main():\n"
        "    engine = create_async_engine(os.environ['DATABASE_URL'])\n"
        "    async with engine.begin() as connection:\n"
        "        await connection.run_sync(SQLModel.metadata.create_all)\n"
        "    await engine.dispose()\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", make_tables], env=environment, cwd=tmp_path, check=True)
    return environment


@pytest.fixture
def worker(shop: dict[str, str], tmp_path: Path) -> Iterator[None]:
    """The worker of the README, with its files."""
    with (tmp_path / "worker.log").open("wb") as log:
        command = [sys.executable, "-m", "worker.cli", "run"]
        process = subprocess.Popen(command, env=shop, cwd=tmp_path, stdout=log, stderr=log)
        while b"worker_started" not in (tmp_path / "worker.log").read_bytes():
            assert process.poll() is None, (tmp_path / "worker.log").read_text()
            time.sleep(0.05)
        yield
        process.terminate()
        assert process.wait(20) == 0, (tmp_path / "worker.log").read_text()


def run(command: list[str], environment: dict[str, str], folder: Path) -> str:
    """Run a command to its end, which must be a good one."""
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.usefixtures("worker")
def test_every_command_runs(shop: dict[str, str], tmp_path: Path) -> None:
    """Each `heavylift` command of the README exits with 0."""
    found = list(commands())
    assert len(found) >= 4, "the README lost its commands"
    for command in found:
        # the one path of the README that a reader must make their own
        words = shlex.split(command.replace("file:///data/orders.csv", (tmp_path / "orders.csv").as_uri()))
        assert words[0] in {"heavylift", "make"}, command
        if words[0] == "heavylift":
            run([sys.executable, "-m", "worker.cli", *words[1:]], shop, tmp_path)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("name", ["enqueue_plain.py", "enqueue_json.py"])
def test_plain_arq_enqueues_and_gets_the_counts(
    name: str, shop: dict[str, str], tmp_path: Path, redis_url: str
) -> None:
    """The programs with plain arq, unconfigured and with our codec, print the counts of their one row."""
    code = FILES[name].replace("RedisSettings()", f"RedisSettings.from_dsn({redis_url!r})")
    assert code != FILES[name]
    (tmp_path / name).write_text(code)
    printed = run([sys.executable, name], shop, tmp_path)
    assert "'read': 1, 'inserted': 1" in printed


@pytest.mark.usefixtures("worker")
def test_the_client_enqueues_and_waits(shop: dict[str, str], tmp_path: Path) -> None:
    """The program with our client closes the orders that are stale, and says how many."""
    rows = '{"rows": [{"id": 1, "status": "open", "created_at": "2020-01-01T00:00:00Z"}]}'
    params = f'{{"table": "orders", "source": {rows}}}'
    run([sys.executable, "-m", "worker.cli", "enqueue", "bulk_upsert", params, "--wait"], shop, tmp_path)
    assert run([sys.executable, "enqueue_client.py"], shop, tmp_path).split() == ["succeeded", "1"]


def test_settings_table_is_the_model() -> None:
    """The README lists every setting with its default and meaning, as the model has them."""
    listed = re.search(r"^\| setting [^\n]*\n((?:\|[^\n]*\n)+)", README, re.MULTILINE)
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
