"""REDIS_URL: what each form of it means, and what is said of a wrong one, without its password."""

import pytest

from worker.core.errors import SettingsError
from worker.queue.redis_address import RedisAddress, Tls
from worker.queue.redis_url import parse_redis_url

MEANT = {
    "redis://redis.example.com": RedisAddress(hosts=(("redis.example.com", 6379),)),
    "redis://redis.example.com:6380/3": RedisAddress(hosts=(("redis.example.com", 6380),), db=3),
    "redis://redis.example.com/3?db=4": RedisAddress(hosts=(("redis.example.com", 6379),), db=4),
    "redis://:6380": RedisAddress(hosts=(("localhost", 6380),)),
    "redis://[::1]:6380": RedisAddress(hosts=(("::1", 6380),)),
    "redis://app:p%40ss%2Fword@one": RedisAddress(hosts=(("one", 6379),), username="app", password="p@ss/word"),
    "redis://:p@ss@one": RedisAddress(hosts=(("one", 6379),), password="p@ss"),
    "redis://one?socket_timeout=2.5&socket_connect_timeout=1": RedisAddress(
        hosts=(("one", 6379),), connect_timeout_s=1, read_timeout_s=2.5
    ),
    "rediss://one": RedisAddress(hosts=(("one", 6379),), tls=Tls()),
    "REDISS://one": RedisAddress(hosts=(("one", 6379),), tls=Tls()),
    "rediss://one?ssl_check_hostname=false": RedisAddress(hosts=(("one", 6379),), tls=Tls(check_hostname=False)),
    "rediss://one?ssl_cert_reqs=none": RedisAddress(
        hosts=(("one", 6379),), tls=Tls(cert_reqs="none", check_hostname=False)
    ),
    "rediss://one?ssl_ca_certs=/etc/ca.pem&ssl_certfile=/etc/cert.pem&ssl_keyfile=/etc/key.pem": RedisAddress(
        hosts=(("one", 6379),), tls=Tls(ca_certs="/etc/ca.pem", certfile="/etc/cert.pem", keyfile="/etc/key.pem")
    ),
    "rediss://one?ssl_certfile=/etc/both.pem": RedisAddress(
        hosts=(("one", 6379),), tls=Tls(certfile="/etc/both.pem", keyfile="/etc/both.pem")
    ),
    "unix:///run/redis/redis.sock?db=2": RedisAddress(socket_path="/run/redis/redis.sock", db=2),
    "unix://app:secret@/run/redis.sock": RedisAddress(socket_path="/run/redis.sock", username="app", password="secret"),
    "redis+sentinel://one,two:26380,[::1]:26381/hall/3": RedisAddress(
        hosts=(("one", 26379), ("two", 26380), ("::1", 26381)), master="hall", db=3
    ),
    "redis+sentinel://app:secret@one/hall?sentinel_username=s&sentinel_password=t": RedisAddress(
        hosts=(("one", 26379),),
        master="hall",
        username="app",
        password="secret",
        sentinel_username="s",
        sentinel_password="t",
    ),
    "rediss+sentinel://one/hall?ssl_ca_certs=/etc/ca.pem": RedisAddress(
        hosts=(("one", 26379),), master="hall", tls=Tls(ca_certs="/etc/ca.pem")
    ),
}

WRONG = {
    "localhost:6379": "does not begin with one of redis://, rediss://, unix://, redis+sentinel://",
    "redis": "does not begin with one of",
    "http://localhost": "does not begin with one of",
    "redis://:secret#1@one": "%23",
    "redis://:sec/ret@one": "%2F",
    "redis://:12/secret@one": "%2F",
    "redis://:sec?ret@one": "%3F",
    "redis://:sec[ret@one": "user name or password cannot be read",
    "redis://one:secret": "host or port cannot be read",
    "redis://one:65536": "up to 65535",
    "redis://one/secret": "database, at the end of its path, is not a number",
    "redis://one?db=two": "db=two is not a number",
    "redis://one?db=-1": "db=-1 is below 0",
    "redis://one?secret": "what follows the ? is not name=value",
    "redis://one?pool_size=5": "no parameter is called 'pool_size'; there are db, ",
    "redis://one?retry_on_timeout=true": "no parameter is called 'retry_on_timeout'",
    "redis://one?decode_responses=true": "no parameter is called 'decode_responses'",
    "redis://one?socket_timeout=0": "socket_timeout=0 is no number of seconds above 0",
    "redis://one?socket_timeout=inf": "socket_timeout=inf is no number of seconds above 0",
    "redis://one?ssl_ca_certs=/etc/ca.pem": "ssl_ca_certs needs a scheme with TLS",
    "rediss://one?ssl_ca_certs=": "ssl_ca_certs has no value",
    "rediss://one?ssl_cert_reqs=CERT_NONE": "ssl_cert_reqs=CERT_NONE is none of required, optional, none",
    "rediss://one?ssl_cert_reqs=none&ssl_check_hostname=yes": "ssl_check_hostname cannot be done",
    "rediss://one?ssl_keyfile=/etc/key.pem": "ssl_keyfile needs the certificate",
    "redis://one?sentinel_password=secret": "sentinel_password needs Sentinels",
    "redis://one,two/0": "several hosts, which only redis+sentinel://",
    "unix://run/redis.sock": "three slashes",
    "unix://": "three slashes",
    "redis+sentinel://:secret@one": "master's name",
    "redis+sentinel://one,,two/hall": "a Sentinel has no host",
    "redis+sentinel://one/hall/secret": "database, at the end of its path, is not a number",
}


@pytest.mark.parametrize("url", MEANT)
def test_each_form_means_what_redis_py_means_by_it(url: str) -> None:
    """Hosts, database, credentials and parameters are where redis-py and others' Sentinel URLs have them."""
    assert parse_redis_url(url) == MEANT[url]


@pytest.mark.parametrize("url", WRONG)
def test_a_wrong_part_is_named(url: str) -> None:
    """The message says which part is wrong, shows no password, and has an example."""
    with pytest.raises(SettingsError) as caught:
        parse_redis_url(url)
    message = str(caught.value)
    assert WRONG[url] in message
    assert "secret" not in message
    assert "For example REDIS_URL=" in message
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("url", [url for url, address in MEANT.items() if address.password])
def test_a_password_is_not_shown(url: str) -> None:
    """Neither in an address as text, nor in where it is for messages."""
    address = parse_redis_url(url)
    for shown in (repr(address), address.place):
        assert str(address.password) not in shown
        assert f"'{address.sentinel_password}'" not in shown
