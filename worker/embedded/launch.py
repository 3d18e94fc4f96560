"""The small program that becomes a server: as the right account, able to reach its files, dying with its parent.

Owns what must happen in the child between fork and exec. It is run by path with a bare interpreter (`python -I -S`), so
it imports nothing but the standard library, and a parent with threads never runs Python between fork and exec. Refuses
to know which server it becomes.
"""

import ctypes
import json
import os
import signal
import stat
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_SET_SECUREBITS, _PR_CAP_AMBIENT = 1, 8, 28, 47
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2
_CLONE_NEWUSER = 0x10000000
_CANNOT_EXECUTE = 126


@dataclass(frozen=True, slots=True)
class Account:
    """The numeric user and group that a program runs as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Ties:
    """How a child is tied to its parent and to the system.

    Attributes:
        death_signal: what the kernel sends the child when the thread that started it ends, killed or not (Linux).
        account: what to become; None keeps the parent's. Only root can become another.
        reach: paths that the account must be able to read and traverse. Where it cannot (a root-only folder on the
            way), the program keeps the capability to pass read and search checks, and nothing is chmodded or moved.
        named_as: run in a user namespace in which the present user has this account's numbers; for a program that
            insists on a user name while the present user has none.
    """

    death_signal: signal.Signals
    account: Account | None = None
    reach: tuple[str, ...] = ()
    named_as: Account | None = None


def command(program: Sequence[str], ties: Ties) -> list[str]:
    """The command that starts `program` with `ties`; it keeps its process id when it becomes the program."""
    order = {**asdict(ties), "parent": os.getpid(), "program": list(program)}
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), json.dumps(order)]


def _libc(function: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{function}: {os.strerror(code)}")


def _prctl(option: int, *values: int) -> None:
    words = (*values, 0, 0, 0, 0)[:4]
    _libc("prctl", option, *(ctypes.c_ulong(word) for word in words))


def _become(account: Account, reach: Sequence[str], program: str) -> None:
    on_linux = sys.platform == "linux"
    if on_linux:
        _prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setgid(account.gid)
    os.setuid(account.uid)
    if on_linux and not all(os.access(path, os.R_OK | os.X_OK) for path in reach):
        _pass_barred_folders(program)


def _pass_barred_folders(program: str) -> None:
    permitted = _permitted()
    _set_capabilities(permitted)
    # Without it access(), which initdb asks about its own files, looks away from capabilities.
    _prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP)
    # The stronger one only where the weaker cannot do: containers often lack it, and it does not allow others to
    # execute what was installed under a umask of 077.
    executable = Path(program).stat().st_mode & stat.S_IXOTH
    enough = executable and permitted & 1 << _CAP_DAC_READ_SEARCH
    capability = _CAP_DAC_READ_SEARCH if enough else _CAP_DAC_OVERRIDE
    _set_capabilities(1 << capability)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)


def _permitted() -> int:
    sets = (ctypes.c_uint32 * 6)()
    _libc("capget", _capability_header(), sets)
    return int(sets[1]) | int(sets[4]) << 32


def _set_capabilities(mask: int) -> None:
    low, high = mask & 0xFFFFFFFF, mask >> 32
    effective_permitted_inheritable = (low, low, low, high, high, high)
    _libc("capset", _capability_header(), (ctypes.c_uint32 * 6)(*effective_permitted_inheritable))


def _capability_header() -> ctypes.Array[ctypes.c_uint32]:
    return (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)


def _take_name(account: Account) -> None:
    uid, gid = os.geteuid(), os.getegid()
    _libc("unshare", _CLONE_NEWUSER)
    # The kernel wants setgroups refused before an unprivileged process may map its group.
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{account.uid} {uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{account.gid} {gid} 1", encoding="ascii")


def _tie_to_parent(parent: int, death_signal: int) -> None:
    # After every change of credentials, which clears it; the parent may have died before this took hold.
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent:
        sys.exit("the process that wanted this server is gone")


def main(order_json: str) -> NoReturn:
    """Carry out one order of `command`, becoming its program.

    Args:
        order_json: what `command` wrote.
    """
    order = json.loads(order_json)
    program: list[str] = order["program"]
    try:
        if order["account"] is not None:
            _become(Account(**order["account"]), order["reach"], program[0])
        if order["named_as"] is not None:
            _take_name(Account(**order["named_as"]))
        _tie_to_parent(order["parent"], order["death_signal"])
        os.execv(program[0], program)  # noqa: S606  (no shell is wanted)
    except OSError as error:
        sys.stderr.write(f"cannot start {program[0]}: {error}\n")
        sys.exit(_CANNOT_EXECUTE)


if __name__ == "__main__":
    main(sys.argv[1])
