"""REDIS_URL, read: one server, a Unix socket, or a master that Sentinels know; with TLS or without.

Owns the grammar, and errors that say which part of the URL is wrong; never its text, which may hold a password. What
redis-py can parse, redis-py parses; the list of Sentinels, which it has no form for, is taken apart here. Opens
nothing.
"""

import re
from collections.abc import Mapping
from math import inf
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode

from redis.asyncio.connection import parse_url

from worker.core.errors import SettingsError
from worker.queue.redis_address import CONNECT_TIMEOUT_S, READ_TIMEOUT_S, RedisAddress, Tls

REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379

_EXAMPLE: Final = "redis://localhost:6379/0"
_SENTINEL_EXAMPLE: Final = "redis+sentinel://user:password@sentinel-1:26379,sentinel-2:26379/mymaster/0"
_UNIX_EXAMPLE: Final = "unix:///run/redis/redis.sock?db=0"
_TLS_EXAMPLE: Final = "rediss://user:password@redis.example.com:6379/0?ssl_ca_certs=/etc/ssl/redis-ca.pem"
_SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
_ENCODE: Final = "In a user name or password the characters / : @ # ? and % are written %2F %3A %40 %23 %3F and %25"

_ANYWHERE: Final = ("db", "username", "password", "socket_timeout", "socket_connect_timeout")
_TLS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_SENTINEL: Final = ("sentinel_username", "sentinel_password")
PARAMETERS: Final = (*_ANYWHERE, *_TLS, *_SENTINEL)
"""What may follow the question mark, as redis-py spells it; those of the Sentinels as everybody else does."""

_CERT_REQS: Final = ("required", "optional", "none")


def parse_redis_url(url: str) -> RedisAddress:
    """Read REDIS_URL.

    Args:
        url: `redis://`, `rediss://` (TLS) or `unix://` as redis-py has them, or `redis+sentinel://` or
            `rediss+sentinel://` with hosts joined by commas, then `/master` and maybe `/db`.

    Raises:
        SettingsError: it cannot be used; the message says which part is wrong, without a password.
    """
    scheme, separator, rest = url.strip().partition("://")
    scheme = scheme.lower()
    if scheme not in _SCHEMES or not separator:
        raise _wrong(f"it does not begin with one of {', '.join(f'{name}://' for name in _SCHEMES)}", _EXAMPLE)
    before, _, query = rest.partition("?")
    authority, _, path = before.partition("/")
    if "#" in rest or "@" in path + query:
        raise _wrong(f"there is a # or @ where none can be. {_ENCODE}", _EXAMPLE)
    userinfo, _, members = authority.rpartition("@")
    options = {**_credentials(userinfo), **_parameters(query, scheme)}
    tls = _tls(options) if scheme.startswith("rediss") else None
    if scheme == "unix":
        return _address(options, None, socket_path=_socket(members, path))
    if scheme.endswith("+sentinel"):
        master, _, database = path.partition("/")
        hosts = _sentinels(members)
        return _address({"db": _database(database), **options}, tls, hosts=hosts, master=_master(master))
    if "," in members:
        raise _wrong("it names several hosts, which only redis+sentinel:// does", _SENTINEL_EXAMPLE)
    return _address({"db": _database(path), **options}, tls, hosts=(_host(members, REDIS_PORT),))


def _wrong(what: str, example: str) -> SettingsError:
    return SettingsError(f"REDIS_URL cannot be used: {what}. For example REDIS_URL={example}")


def _credentials(userinfo: str) -> dict[str, object]:
    try:
        found = parse_url(f"redis://{userinfo}@localhost")
    except ValueError:
        raise _wrong(f"the user name or password cannot be read. {_ENCODE}", _EXAMPLE) from None
    return {name: value for name, value in found.items() if name in {"username", "password"}}


def _host(member: str, default_port: int) -> tuple[str, int]:
    try:
        found = parse_url(f"redis://{member}")
    except ValueError:
        # the member itself is not shown: after a / in a password it is the password's beginning
        raise _wrong(f"a host or port cannot be read. A port is a number up to 65535. {_ENCODE}", _EXAMPLE) from None
    return found.get("host", "localhost"), found.get("port", default_port)


def _sentinels(members: str) -> tuple[tuple[str, int], ...]:
    listed = members.split(",")
    if not all(listed):
        raise _wrong("a Sentinel has no host", _SENTINEL_EXAMPLE)
    return tuple(_host(member, SENTINEL_PORT) for member in listed)


def _master(name: str) -> str:
    if not re.fullmatch(r"[\w.-]+", name):
        raise _wrong("the master's name, as the Sentinels have it, does not follow the hosts", _SENTINEL_EXAMPLE)
    return name


def _socket(members: str, path: str) -> str:
    if members or not path:
        raise _wrong("a socket's path is absolute, so that three slashes follow unix:", _UNIX_EXAMPLE)
    return f"/{unquote(path)}"


def _database(path: str) -> int:
    number = path.strip("/")
    if number and not number.isdecimal():
        # redis-py would take database 0 without a word
        raise _wrong("the database, at the end of its path, is not a number", _EXAMPLE)
    return int(number or 0)


def _parameters(query: str, scheme: str) -> dict[str, object]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        raise _wrong("what follows the ? is not name=value, joined by &", _TLS_EXAMPLE) from None
    found: dict[str, object] = {}
    for name, value in pairs:
        _check_name(name, scheme)
        try:
            found |= parse_url(f"redis://?{urlencode({name: value})}")
        except ValueError:
            raise _wrong(f"{name}={value} is not a number", f"redis://localhost:6379?{name}=1") from None
        if not value:
            raise _wrong(f"{name} has no value", _TLS_EXAMPLE)
    return found


def _check_name(name: str, scheme: str) -> None:
    if name in _TLS and not scheme.startswith("rediss"):
        raise _wrong(f"{name} needs a scheme with TLS: rediss:// or rediss+sentinel://", _TLS_EXAMPLE)
    if name in _SENTINEL and not scheme.endswith("+sentinel"):
        raise _wrong(f"{name} needs Sentinels: redis+sentinel:// or rediss+sentinel://", _SENTINEL_EXAMPLE)
    if name not in PARAMETERS:
        raise _wrong(f"no parameter is called {name!r}; there are {', '.join(PARAMETERS)}", _TLS_EXAMPLE)


def _tls(options: Mapping[str, object]) -> Tls:
    reqs = _text(options, "ssl_cert_reqs") or "required"
    if reqs not in _CERT_REQS:
        raise _wrong(f"ssl_cert_reqs={reqs} is none of {', '.join(_CERT_REQS)}", _TLS_EXAMPLE)
    certfile, keyfile = _text(options, "ssl_certfile"), _text(options, "ssl_keyfile")
    if keyfile and not certfile:
        raise _wrong("ssl_keyfile needs the certificate that it belongs to: ssl_certfile", _TLS_EXAMPLE)
    asked = options.get("ssl_check_hostname")
    if asked and reqs == "none":
        raise _wrong(
            "ssl_cert_reqs=none asks for no certificate, so that ssl_check_hostname cannot be done", _TLS_EXAMPLE
        )
    check = reqs != "none" if asked is None else bool(asked)
    # one file often holds both, which redis-py's asynchronous client passes over without a word
    return Tls(_text(options, "ssl_ca_certs"), certfile, keyfile or certfile, reqs, check)


def _address(
    options: Mapping[str, object],
    tls: Tls | None,
    *,
    hosts: tuple[tuple[str, int], ...] = (),
    socket_path: str | None = None,
    master: str | None = None,
) -> RedisAddress:
    database = int(_text(options, "db") or 0)
    if database < 0:
        raise _wrong(f"db={database} is below 0", _EXAMPLE)
    return RedisAddress(
        hosts=hosts,
        socket_path=socket_path,
        master=master,
        db=database,
        username=_text(options, "username"),
        password=_text(options, "password"),
        sentinel_username=_text(options, "sentinel_username"),
        sentinel_password=_text(options, "sentinel_password"),
        tls=tls,
        connect_timeout_s=_seconds(options, "socket_connect_timeout", CONNECT_TIMEOUT_S),
        read_timeout_s=_seconds(options, "socket_timeout", READ_TIMEOUT_S),
    )


def _text(options: Mapping[str, object], name: str) -> str | None:
    value = options.get(name)
    return None if value is None else str(value)


def _seconds(options: Mapping[str, object], name: str, default: float) -> float:
    seconds = float(_text(options, name) or default)
    if not 0 < seconds < inf:
        raise _wrong(f"{name}={seconds:g} is no number of seconds above 0", f"{_EXAMPLE}?{name}={default:g}")
    return seconds
