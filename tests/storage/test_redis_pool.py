"""The pool of connections to Redis: warm, bounded, checked, back after every kind of trouble."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
import redis
from redis import exceptions

from clarion.errors import RedisAway
from clarion.storage import redis_pool
from clarion.storage.redis_failure import redis_failure
from clarion.storage.redis_pool import RedisPool
from clarion.storage.redis_script import Script
from clarion.storage.redis_url import shown, url_fault
from clarion.testing import ManualClock
from clarion.testing.certificate import CertificateAuthority
from clarion.testing.clarion_process import free_port


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def make_pool(clock) -> AsyncIterator[Callable[..., RedisPool]]:
    pools: list[RedisPool] = []

    def make(url: str, least: int = 1, most: int = 4) -> RedisPool:
        pool = RedisPool(url, least=least, most=most, rng=lambda: 0.0, monotonic=clock.monotonic)
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        await pool.close()


def connections(server: Any) -> int:
    """How many connections of ours the server has."""
    return sum(each["name"] == "clarion" for each in server.client().client_list())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def away(pool: RedisPool, *command: Any) -> str:
    """Carry out a command that must fail, and return why it did."""
    with pytest.raises(RedisAway) as caught:
        await pool.run(*(command or ("PING",)))
    assert caught.value.retry_in_s > 0
    return str(caught.value)


# --- how many ----------------------------------------------------------------------------------


async def test_the_least_connections_are_there_before_anybody_asks(own_redis, make_pool):
    pool = make_pool(own_redis.url, least=3)

    await pool.warm()

    assert connections(own_redis) == 3
    assert (pool.state().used, pool.state().idle) == (0, 3)


async def test_no_more_than_the_most_are_opened_and_who_waits_gets_one(own_redis, make_pool):
    """Forty at once on four connections: all are answered, by four."""
    pool = make_pool(own_redis.url, most=4)

    found = await asyncio.gather(*(pool.run("INCR", "n") for _ in range(40)))

    assert sorted(found) == list(range(1, 41))
    assert connections(own_redis) == 4
    assert (pool.state().used, pool.state().idle, pool.state().waiting) == (0, 4, 0)


async def test_who_waits_in_vain_hears_what_to_do(own_redis, make_pool, monkeypatch):
    monkeypatch.setattr(redis_pool, "WAIT_S", 0.05)
    pool = make_pool(own_redis.url, most=1)

    async with pool.line("SUBSCRIBE", "news"):
        told = await away(pool)

    assert "all 1 connections were in use for 0.05 s" in told
    assert "redis.pool_max" in told
    assert await pool.run("PING") == b"PONG"


async def test_waiting_is_counted(own_redis, make_pool, clock):
    pool = make_pool(own_redis.url, most=1)

    async with pool.line("SUBSCRIBE", "news"):
        waiting = asyncio.create_task(pool.run("PING"))
        await until(lambda: pool.state().waiting == 1)
        clock.advance(0.25)
    await waiting

    assert pool.state().waited_s == 0.25
    assert pool.state().waiting == 0


async def test_what_nobody_needed_for_long_is_closed(own_redis, make_pool, clock):
    pool = make_pool(own_redis.url, least=2, most=8)
    await asyncio.gather(*(pool.run("PING") for _ in range(8)))

    clock.advance(redis_pool.MAX_IDLE_S + 1.0)
    await pool.run("PING")

    assert pool.state().idle == 2
    await until(lambda: connections(own_redis) == 2)


async def test_it_leaves_nothing_open(own_redis, make_pool):
    pool = make_pool(own_redis.url, least=3)
    await pool.warm()

    await pool.close()

    await until(lambda: connections(own_redis) == 0)


# --- trouble -----------------------------------------------------------------------------------


async def test_connections_that_broke_while_idle_are_not_noticed(own_redis, make_pool):
    """CLIENT KILL of all of them: each question is answered, on fresh ones."""
    pool = make_pool(own_redis.url, least=4)
    await pool.warm()
    own_redis.client().client_kill_filter(_type="normal", skipme=True)

    found = await asyncio.gather(*(pool.run("PING") for _ in range(4)))

    assert found == [b"PONG"] * 4


async def test_a_connection_that_was_idle_for_long_is_asked_first(own_redis, make_pool, clock):
    pool = make_pool(own_redis.url)
    await pool.warm()
    before = own_redis.client().info("commandstats").get("cmdstat_ping", {"calls": 0})["calls"]

    await pool.run("GET", "x")
    clock.advance(redis_pool.PING_AFTER_S + 1.0)
    await pool.run("GET", "x")

    after = own_redis.client().info("commandstats")["cmdstat_ping"]["calls"]
    assert after - before == 1


async def test_a_server_that_comes_back_is_used_again(own_redis, make_pool, clock):
    pool = make_pool(own_redis.url)
    await pool.run("SET", "kept", "1")

    own_redis.kill()
    told = await away(pool)
    own_redis.start()
    clock.advance(redis_pool.LAST_RETRY_S)

    assert "cannot be reached" in told
    assert await pool.run("GET", "kept") == b"1"


async def test_a_server_that_is_away_is_left_alone_for_longer_and_longer(make_pool, clock):
    pool = make_pool(f"redis://127.0.0.1:{free_port()}/0")
    waits = []

    for _ in range(9):
        with pytest.raises(RedisAway) as caught:
            await pool.run("PING")
        waits.append(round(caught.value.retry_in_s, 3))
        told = await away(pool)  # At once, and with the reason of the try before.
        assert "refused" in told.lower()
        clock.advance(caught.value.retry_in_s + 0.001)

    assert waits[0] < 0.1
    assert waits == sorted(waits)
    assert waits[-1] <= redis_pool.LAST_RETRY_S


async def test_a_server_that_says_nothing_is_given_up_soon(
    own_redis, make_pool, monkeypatch, clock
):
    """Its connection is not used again: a late answer would be taken for the next one's."""
    monkeypatch.setattr(redis_pool, "ANSWER_S", 0.1)
    pool = make_pool(own_redis.url)
    await pool.run("SET", "x", "old")

    own_redis.pause()
    try:
        told = await away(pool, "GET", "x")
    finally:
        own_redis.resume()

    assert "does not answer" in told
    await until(lambda: pool.state().used == 0)
    monkeypatch.setattr(redis_pool, "ANSWER_S", 5.0)
    clock.advance(redis_pool.LAST_RETRY_S)
    assert await pool.run("ECHO", "new") == b"new"


async def test_who_is_cancelled_leaves_no_answer_behind_for_the_next(own_redis, make_pool):
    pool = make_pool(own_redis.url, most=1)
    await pool.warm()

    for n in itertools.chain(range(20)):
        cancelled = asyncio.create_task(pool.run("ECHO", f"cancelled {n}"))
        for _ in range(n % 5):
            await asyncio.sleep(0)
        cancelled.cancel()
        assert await pool.run("ECHO", f"next {n}") == f"next {n}".encode()

    assert pool.state().used == 0


async def test_a_server_that_is_full_says_so_and_keeps_its_connection(own_redis, make_pool):
    pool = make_pool(own_redis.url)
    await pool.warm()
    own_redis.client().config_set("maxmemory", "1")

    told = await away(pool, "SET", "x", "y" * 1000)

    assert "out of memory" in told
    assert pool.state().idle == 1
    assert await pool.run("PING") == b"PONG"


async def test_a_line_that_breaks_says_so(own_redis, make_pool):
    pool = make_pool(own_redis.url)

    async def listen() -> None:
        async with pool.line("SUBSCRIBE", "news") as connection:
            await connection.read_response()
            own_redis.client().client_kill_filter(_type="pubsub")
            await connection.read_response(timeout=5.0)

    with pytest.raises(RedisAway):
        await listen()

    assert pool.state().used == 0


async def test_a_script_is_sent_again_where_the_server_forgot_it(own_redis, make_pool):
    pool, script = make_pool(own_redis.url), Script("return {KEYS[1], ARGV[1]}")

    for _ in range(3):
        assert await pool.run_script(script, ["k"], ["v"]) == [b"k", b"v"]
    own_redis.client().script_flush()
    assert await pool.run_script(script, ["k"], ["v"]) == [b"k", b"v"]

    calls = own_redis.client().info("commandstats")
    assert calls["cmdstat_eval"]["calls"] == 2


async def test_it_goes_over_tcp_too(make_pool, own_redis):
    port = free_port()
    own_redis.kill()
    own_redis.start("--port", str(port))
    pool = make_pool(f"redis://127.0.0.1:{port}/3")

    await pool.run("SET", "x", "1")

    assert redis.Redis(port=port, db=3).get("x") == b"1"
    assert pool.name == f"Redis at 127.0.0.1:{port}"


class TlsFront:
    """Ends TLS before a server on a socket."""

    def __init__(self, path: str, context: ssl.SSLContext) -> None:
        self._path = path
        self._context = context
        self._lines: list[tuple[asyncio.Task[Any] | None, list[asyncio.StreamWriter]]] = []

    async def __aenter__(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        return self._server.sockets[0].getsockname()[1]

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for _, writers in self._lines:
            for writer in writers:
                writer.close()
        await asyncio.gather(*(task for task, _ in self._lines if task), return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, before = await asyncio.open_unix_connection(self._path)
        self._lines.append((asyncio.current_task(), [writer, before]))
        with suppress(OSError, ssl.SSLError):
            await asyncio.gather(self._copy(reader, before), self._copy(behind, writer))

    @staticmethod
    async def _copy(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while data := await source.read(4096):
            to.write(data)
            await to.drain()
        to.close()


async def test_it_goes_over_tls_to_a_server_that_proves_who_it_is(own_redis, make_pool, tmp_path):
    """`rediss://`, with an authority of one's own; another's certificate is refused."""
    authority = CertificateAuthority(tmp_path)
    path = own_redis.url.removeprefix("unix://").partition("?")[0]

    async with TlsFront(path, authority.server_context()) as port:
        trusting = make_pool(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={authority.ca_file}")
        found = await trusting.run("ECHO", "hello")
        told = await away(make_pool(f"rediss://127.0.0.1:{port}/0"))
        await trusting.close()

    assert found == b"hello"
    assert "(TLS: " in told
    assert "certificate" in told


async def test_a_wrong_password_is_named_and_not_told(own_redis, make_pool):
    own_redis.client().config_set("requirepass", "correct")
    pool = make_pool(own_redis.url + "&password=hunter2")

    told = await away(pool)

    assert "refuses the user or the password" in told
    assert "hunter2" not in told


# --- words -------------------------------------------------------------------------------------


def errors_of_redis() -> list[type[exceptions.RedisError]]:
    """Every error that redis-py can raise."""
    found = [exceptions.RedisError]
    for each in found:
        found += [sub for sub in each.__subclasses__() if sub not in found]
    return [each for each in found if each.__module__ == exceptions.__name__]


@pytest.mark.parametrize("kind", errors_of_redis(), ids=lambda kind: kind.__name__)
def test_no_error_of_redis_is_without_words(kind):
    error = kind.__new__(kind)
    Exception.__init__(error, "what it says")

    assert redis_failure(error).startswith(("it ", "a script", "its ", "too few"))


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", "out of memory"),
        ("MISCONF Errors writing to the AOF file: No space left on device", "cannot save"),
        ("LOADING Redis is loading the dataset in memory", "loading"),
        ("NOPERM User x has no permissions to run the 'eval' command", "may not do"),
        ("ERR max number of clients reached", "maxclients"),
        ("ERR unknown command 'EVALSHA'", "unknown command"),
    ],
)
def test_what_a_server_replies_is_told_in_plain_words(reply, words):
    assert words in redis_failure(exceptions.ResponseError(reply))


GOOD_URLS = [
    "redis://cache", "redis://cache:6379/0", "rediss://user:p%40ss@cache.example.com:6380/1",
    "unix:///run/redis.sock?db=2", "redis://[::1]:6379", "redis://cache/?ssl_cert_reqs=none",
]  # fmt: skip
BAD_URLS = {
    "http://cache": "names no Redis server",
    "cache:6379": "names no Redis server",
    "redis://": "names no host",
    "redis://cache:port": "no number as its port",
    "redis://u:hunter2#x@cache": "no number as its port",
    "redis://cache/zero": "number of a database",
    "redis://cache?db=x": "no number as its db",
    "redis://cache?socket_timeout=3": "decides itself",
    "redis://cache?colour=red": "means nothing",
    "unix://": "names no socket",
}


@pytest.mark.parametrize("url", GOOD_URLS)
def test_a_good_url_has_no_fault_and_makes_a_pool(url):
    assert url_fault(url) is None
    RedisPool(url, least=1, most=2, rng=lambda: 0.0)


@pytest.mark.parametrize(("url", "words"), BAD_URLS.items())
def test_the_fault_of_a_url_is_told_without_its_password(url, words):
    fault = url_fault(url)

    assert fault is not None
    assert words in fault
    assert "hunter2" not in fault


def test_a_url_is_shown_without_its_password():
    assert shown("rediss://user:hunter2@cache:1/0") == "Redis at cache:1"
    assert shown("unix:///run/redis.sock?password=hunter2") == "Redis at /run/redis.sock"
