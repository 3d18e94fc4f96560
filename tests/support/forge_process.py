"""The forge's own process: it has imported everything once, and forks a process for everyone who connects.

`python -m tests.support.forge_process SOCKET MODULE...` says `ready`, then takes orders, one a connection, until its
standard input ends. Owns the fork and what a child must not inherit. Single-threaded and without an event loop, so that
a fork is a whole process. Refuses to know what is tested: an order is an environment, a log and arguments.
"""

import ctypes
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from sqlalchemy.orm import configure_mappers

from tests.support import kill_points

IMPORTED = (
    "aiomysql",
    "aiosqlite",
    "asyncpg",
    "hiredis",
    "sqlalchemy.dialects.mysql.aiomysql",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "uvloop",
    "worker.cli.app",
    "worker.cli.serve",
)
"""What `heavylift run` would import when it is first needed."""

CONSOLE_SCRIPTS = {"heavylift": ("worker.cli.app", "main"), "pytest": ("pytest", "main")}
"""What a command's console script calls, by its name."""

READY = "ready"
"""What it says once it takes orders."""

PR_SET_PDEATHSIG = 1
ORDER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Order:
    """A process to be forked: a worker, another command of `heavylift`, or a program.

    Attributes:
        environment: all of its environment.
        log: the file that its output is added to.
        arguments: `heavylift` or `pytest` with its arguments, or `python` with a program's path and that one's.
        errors: the file that its standard error is added to; `log` where empty.
        folder: the one that it is started in; the forge's where empty.
    """

    environment: dict[str, str]
    log: str
    arguments: list[str]
    errors: str = ""
    folder: str = ""


@dataclass(slots=True)
class ForgeProcess:
    """Forks workers and tells of their ends.

    A connection is its worker's life. Out go the process id, once it was forked, and its exit code, once it was reaped;
    in come numbers of signals to be sent to it, which so reach no other process. A worker whose connection closes is
    killed.

    Attributes:
        listener: where orders come from.
        workers: those that live, by process id, with their connections.
        selector: of everything that is listened to.
    """

    listener: socket.socket
    workers: dict[int, socket.socket] = field(default_factory=dict)
    selector: selectors.DefaultSelector = field(default_factory=selectors.DefaultSelector)

    def serve(self) -> None:
        """Take orders until standard input ends, then kill what still lives."""
        reaping, woken = os.pipe()
        for end in (reaping, woken):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.selector.register(reaping, selectors.EVENT_READ, self._reap)
        self.selector.register(self.listener, selectors.EVENT_READ, self._take_order)
        self.selector.register(sys.stdin.fileno(), selectors.EVENT_READ, None)
        print(READY, flush=True)
        while True:
            for key, _ in self.selector.select():
                if key.data is None:
                    self._kill_all()
                    return
                key.data(key.fd)

    def _take_order(self, _: int) -> None:
        connection, _address = self.listener.accept()
        with connection.makefile("rb") as lines:
            order = Order(**json.loads(lines.readline(ORDER_BYTES)))
        forge = os.getpid()
        # in a child `random` seeds itself anew; nothing holds a connection, a thread or a loop yet
        pid = os.fork()
        if pid == 0:
            self._become_worker(order, connection, forge)
        self.workers[pid] = connection
        connection.sendall(b"%d\n" % pid)
        self.selector.register(connection, selectors.EVENT_READ, lambda _: self._send_signals(pid, connection))

    def _send_signals(self, pid: int, connection: socket.socket) -> None:
        asked = connection.recv(64)
        if not asked:
            self.selector.unregister(connection)
            connection.close()
        if pid in self.workers:
            for number in asked.split() or [b"%d" % signal.SIGKILL]:
                os.kill(pid, int(number))

    def _reap(self, reaping: int) -> None:
        os.read(reaping, 4096)
        while self.workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with suppress(OSError):  # whoever ordered it may have gone
                self.workers.pop(pid).sendall(b"%d\n" % os.waitstatus_to_exitcode(status))

    def _kill_all(self) -> None:
        for pid in self.workers:
            os.kill(pid, signal.SIGKILL)
        for pid in self.workers:
            os.waitpid(pid, 0)

    def _become_worker(self, order: Order, connection: socket.socket, forge: int) -> NoReturn:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # standard input is replaced below; what the selector alone holds must not be closed with it, and then again
        inherited = [key for key in self.selector.get_map().values() if key.data is not None]
        self.selector.close()
        for descriptor in (*(key.fd for key in inherited), connection.fileno()):
            os.close(descriptor)
        _die_with(forge)
        _write_to(order.log, order.errors or order.log)
        os.environ.clear()
        os.environ.update(order.environment)
        if order.folder:
            os.chdir(order.folder)
        kill_points.install(order.environment)
        os._exit(_run(order.arguments))


def _die_with(forge: int) -> None:
    # elsewhere only a forge that ends well takes its workers along
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != forge:
        os._exit(1)


def _write_to(log: str, errors: str) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    output, complaints = (os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for path in (log, errors))
    for source, target in ((nothing, 0), (output, 1), (complaints, 2)):
        os.dup2(source, target)


def _run(arguments: Sequence[str]) -> int:
    """What the console script or the interpreter does, in this process; returns the exit code."""
    try:
        if arguments[0] in CONSOLE_SCRIPTS:
            module, function = CONSOLE_SCRIPTS[arguments[0]]
            sys.argv = list(arguments)
            return int(getattr(import_module(module), function)())
        sys.argv = list(arguments[1:])
        sys.path.insert(0, str(Path(sys.argv[0]).resolve().parent))
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - a fork must never return to the forge's loop
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
    return 0


def main(path: str, modules: Sequence[str]) -> None:
    """Import everything, then serve.

    Args:
        path: of the socket to make.
        modules: to import, such as those that declare jobs and tables.
    """
    for module in (*IMPORTED, *modules):
        import_module(module)
    configure_mappers()
    # a collection would touch, and so copy, every page that the workers share
    gc.collect()
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        ForgeProcess(listener).serve()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
