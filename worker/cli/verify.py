"""`heavylift verify transfers`: the books checked, rule by rule; the exit code says whether all is well."""

import asyncio
import dataclasses
from collections.abc import Sequence
from datetime import timedelta

import orjson
import typer

from worker.cli.servers import use_servers
from worker.cli.wording import one_line
from worker.core.settings import Settings
from worker.database.engine import open_database
from worker.database.migrate import check_version
from worker.database.reflect import complete_tables
from worker.database.transfer_check import CheckedRule, check_books
from worker.main import load_declared

PATIENCE = timedelta(days=1)
"""How long one statement may take: each reads all of the books."""


def transfers(*, as_json: bool) -> None:
    """Check the books and print what was found, a line a rule.

    Raises:
        typer.Exit: with code 1, where a rule is broken.
        HeavyliftError: they could not be looked at.
    """
    with use_servers(redis=False) as settings:
        checked = asyncio.run(_check(settings))
    sound = not any(rule.broken for rule in checked)
    if as_json:
        typer.echo(orjson.dumps({"sound": sound, "rules": [dataclasses.asdict(rule) for rule in checked]}).decode())
    else:
        _print(checked)
    if not sound:
        typer.echo(_advice(checked), err=True)
        raise typer.Exit(1)


async def _check(settings: Settings) -> list[CheckedRule]:
    declared = load_declared(settings)
    patient = settings.model_copy(update={"statement_timeout_ms": PATIENCE // timedelta(milliseconds=1)})
    database = open_database(patient, "verify")
    try:
        await database.check()
        await check_version(database)
        tables = await complete_tables(database, declared.tables, settings)
        return await check_books(database, tables)
    finally:
        await database.dispose()


def _print(checked: Sequence[CheckedRule]) -> None:
    for rule in checked:
        if not rule.broken:
            typer.echo(f"ok      {rule.title} ({rule.looked_at:,} {rule.of})")
            continue
        typer.echo(f"BROKEN  {rule.title} ({rule.broken:,} do not, of {rule.looked_at:,} {rule.of})")
        for finding in rule.findings:
            typer.echo(f"        {one_line(finding)}")
        if rule.broken > len(rule.findings):
            typer.echo(f"        and {rule.broken - len(rule.findings):,} more")


def _advice(checked: Sequence[CheckedRule]) -> str:
    broken = [rule.name for rule in checked if rule.broken]
    return (
        f"error: the books are not in order: {', '.join(broken)}. Nothing is repaired by itself; transfers leave an "
        "account alone whose balance is not what its books end at"
    )
