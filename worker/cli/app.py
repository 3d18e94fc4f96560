"""The commands: their names, arguments and help, and how each ends.

Owns exit codes: 0 done, 1 an error of ours or a run that did not succeed, 2 wrong usage, 130 interrupted. An error that
was foreseen is one line on standard error; anything else is a bug, and keeps its traceback. What a command does is
imported when it runs, so that `--help` is quick.
"""
# ruff: noqa: PLC0415 - see above

import os
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, NoReturn

import typer

from worker.cli.parse import check_id, parse_duration, parse_params
from worker.core.errors import HeavyliftError
from worker.core.outcomes import Status

app = typer.Typer(
    name="heavylift",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RunId = Annotated[str, typer.Argument(metavar="ID", help="The run's id, as `enqueue` prints it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]

verifying = typer.Typer(rich_markup_mode=None)
app.add_typer(verifying, name="verify")


def main() -> NoReturn:
    """The console script."""
    sys.exit(_run())


def _run() -> int:
    try:
        code = app(prog_name="heavylift", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        _tell(f"{error.format_message()} (see: heavylift --help)")
        return error.exit_code
    except (HeavyliftError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            return _leave_quietly()
        _tell(str(error) or type(error).__name__)
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return 130
    return code if isinstance(code, int) else 0


def _tell(message: str) -> None:
    from worker.cli.wording import one_line

    typer.echo(f"error: {one_line(message)}", err=True)


def _leave_quietly() -> int:
    # whoever read our output has left (`| head`): Python's last flush must not complain of it either
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _print_version() -> None:
    try:
        typer.echo(f"heavylift {version('heavylift')}")
    except PackageNotFoundError:
        typer.echo("heavylift, from a folder: not installed")


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    *,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """A background worker for heavy database work: bounded chunks, exactly-once effects.

    DATABASE_URL and REDIS_URL say where the servers are. Without them, embedded ones in .heavylift/ are used.

    Start with:  heavylift migrate  and  heavylift run
    """
    if show_version:
        _print_version()
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def run(
    *,
    burst: Annotated[bool, typer.Option("--burst", help="Stop when the queue is empty.")] = False,
) -> None:
    """Run the worker until it is stopped.

    SIGTERM or Ctrl-C stops each run at its next chunk; any worker goes on from there.

    Example:  WORKER_MODELS=myapp.models heavylift run
    """
    from worker.cli import serve

    serve.run(burst=burst)


@app.command()
def migrate() -> None:
    """Create or upgrade the ledger in the database.

    The ledger is the tables heavylift_*. No other table is touched.

    Example:  DATABASE_URL=postgresql://user:password@localhost/app heavylift migrate
    """
    from worker.cli import serve

    serve.migrate()


@app.command()
def enqueue(
    job: Annotated[str, typer.Argument(metavar="JOB", help="The job's name, such as bulk_upsert.")],
    params: Annotated[
        str | None,
        typer.Argument(metavar="[PARAMS]", help="Its parameters: a JSON object, or - to read one from standard input."),
    ] = None,
    *,
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="One parameter; a value that is JSON is read as JSON. Repeatable."),
    ] = None,
    run_id: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="The run's id. The same again finds that run and makes no other."),
    ] = None,
    delay: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Start no sooner than this from now: 30s, 5m, 2h, 1d.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Allow it to touch every row of a table.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end; non-zero unless it succeeds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the run's record as JSON instead of its id.")] = False,
) -> None:
    """Enqueue a run of a job and print its id.

    \b
    Examples:
      heavylift enqueue bulk_upsert --wait \\
          '{"table": "orders", "source": {"uri": "file:///data/orders.csv"}}'
      heavylift enqueue bulk_upsert --param table=orders \\
          --param source='{"uri": "file:///data/orders.csv"}' --id orders-2026-11-21
    """  # noqa: D301 - \b is the backspace by which typer knows what not to wrap
    from worker.cli import enqueue as enqueueing

    order = enqueueing.Order(
        job=check_id(job),
        params=parse_params(enqueueing.read_params(params), param or []),
        run_id=run_id,
        delay=None if delay is None else parse_duration(delay),
        options={"all": True} if every else {},
        wait=wait,
        as_json=as_json,
    )
    enqueueing.enqueue(order)


@app.command()
def runs(
    *,
    status: Annotated[Status | None, typer.Option(help="Only runs of this status.")] = None,
    job: Annotated[str | None, typer.Option(metavar="JOB", help="Only runs of this job.")] = None,
    page: Annotated[int, typer.Option(min=1, max=10**9, help="Which page.")] = 1,
    size: Annotated[int, typer.Option(min=1, max=1000, help="Runs a page.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first. In a pipe: a line a run, separated by tabs.

    Example:  heavylift runs --status failed --job bulk_upsert
    """
    from worker.cli import look

    look.runs(status=status, job=None if job is None else check_id(job), page=page, size=size, as_json=as_json)


@app.command()
def show(run_id: RunId, *, as_json: AsJson = False) -> None:
    """Show all there is to know of one run.

    Example:  heavylift show orders-2026-11-21 --json
    """
    from worker.cli import look

    look.show(check_id(run_id), as_json=as_json)


@app.command()
def watch(
    run_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="The run's id; all runs unless given.")] = None,
) -> None:
    """Follow one run, or all of them.

    With an id, until that run ends; the exit code is non-zero unless it succeeds. Without one, the unfinished and the
    newest runs are shown until Ctrl-C; in a pipe they are listed once.

    Example:  heavylift watch orders-2026-11-21
    """
    from worker.cli import look

    look.watch(None if run_id is None else check_id(run_id))


@app.command()
def quarantine(
    run_id: RunId,
    *,
    replay: Annotated[bool, typer.Option("--replay", help="Try them again in a new run, and print its id.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the rows of a run that were refused, or try them again.

    Each is listed with its line, the reason and what it held.

    With --replay, a new run of the same job with the same parameters takes just these rows, each once.

    Example:  heavylift quarantine orders-2026-11-21 --replay
    """
    from worker.cli import look
    from worker.cli import replay as replaying

    if replay:
        replaying.replay(check_id(run_id), as_json=as_json)
    else:
        look.quarantine(check_id(run_id), as_json=as_json)


@verifying.callback(invoke_without_command=True)
def verify(context: typer.Context) -> None:
    """Check what is written down against what is there."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@verifying.command("transfers")
def verify_transfers(*, as_json: AsJson = False) -> None:
    """Check the books of all transfers, and the balances of their accounts.

    All in one snapshot; transfers may go on meanwhile. A line a rule, with the first few rows that break it; the exit
    code is non-zero where one is broken. WORKER_MODELS must name the models of the accounts.

    Example:  WORKER_MODELS=myapp.models heavylift verify transfers
    """
    from worker.cli import verify

    verify.transfers(as_json=as_json)


@app.command()
def demo() -> None:
    """See it work on 336,776 real rows.

    They are upserted twice on embedded servers, and every count is checked with plain SQL.

    Example:  heavylift demo
    """
    from worker.cli.demo import demo as demonstrate

    demonstrate()
