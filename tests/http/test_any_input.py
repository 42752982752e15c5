"""Whatever is sent, the answer is a 2xx or a 4xx, and what was refused is not stored."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlencode

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from clarion.domain.submission import FIELDS

GOOD = {"channel": "email", "to": "ada@example.com", "subject": "Hi", "text": "Hello"}
JSON = {"Content-Type": "application/json"}

TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
SCALAR = (
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT
    | st.sampled_from(["email", "sms", "2030-01-01T00:00:00Z", "ada@example.com", "+14155550123"])
)  # fmt: skip
VALUE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4)
)
FIELD = st.sampled_from([*FIELDS, "idempotency_key", "", "__proto__"]) | TEXT
NOTIFICATION = st.dictionaries(FIELD, VALUE, max_size=6).map(lambda changed: {**GOOD, **changed})

QUICK = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def dump(value: Any) -> bytes:
    """Write JSON as loosely as Python does: NaN and lone surrogates included."""
    return json.dumps(value).encode()


async def test_no_body_breaks_the_server(served):
    """JSON of every shape and what is none, to both addresses that take a body."""
    loop_safe = _runner(served)

    @QUICK
    @given(
        body=NOTIFICATION.map(dump) | VALUE.map(dump) | st.binary(max_size=60)
        | st.tuples(NOTIFICATION.map(dump), st.integers(0, 200), st.binary(max_size=3)).map(
            lambda each: each[0][: each[1]] + each[2] + each[0][each[1] :]
        ),
        is_batch=st.booleans(),
    )  # fmt: skip
    def check(body: bytes, is_batch: bool) -> None:
        path = "/v1/notifications/batch" if is_batch else "/v1/notifications"
        loop_safe("POST", path, body)

    await _in_thread(check)
    stats = (await served.get("/v1/stats")).json
    assert stats["accepted"] == sum(stats["by_status"].values()) == len(loop_safe.ids)


async def test_no_query_breaks_the_server(served):
    """Any bytes behind the question mark, at every address that reads."""
    loop_safe = _runner(served)

    @QUICK
    @given(
        path=st.sampled_from(
            ["/v1/notifications", "/v1/dead-letters", "/v1/stats", "/v1/notifications/x", "/health"]
        ),
        query=st.dictionaries(
            st.sampled_from(["status", "limit", "cursor", "to", "since", "reason"]) | TEXT,
            TEXT | st.sampled_from(["W10", "WyJhIl0", "WzFlOTk5LCJ4Il0", "1e9", "-1", "sent"]),
            max_size=3,
        ),
    )
    def check(path: str, query: dict[str, str]) -> None:
        loop_safe("GET", f"{path}?{urlencode(query, errors='surrogatepass')}", None)

    await _in_thread(check)


def _runner(served: Any) -> Any:
    """Return a function for Hypothesis's thread that asks on the server's loop and judges."""
    loop = asyncio.get_running_loop()

    class Ask:
        def __init__(self) -> None:
            self.ids: set[str] = set()
            """What was accepted; a replay of a key is the same id."""

        def __call__(self, method: str, path: str, body: bytes | None) -> None:
            asking = self._ask(method, path, body)
            asyncio.run_coroutine_threadsafe(asking, loop).result(20)

        async def _ask(self, method: str, path: str, body: bytes | None) -> None:
            url = URL(served.url + path, encoded=True)
            headers = JSON if body is not None else {}
            async with served.session.request(method, url, data=body, headers=headers) as answer:
                told = await answer.json(content_type=None)
                assert answer.status < 500, told
                if answer.status == 202:
                    results = told.get("results", [told])
                    self.ids |= {each["id"] for each in results if "id" in each}
                    problems = [each["problem"] for each in results if "problem" in each]
                    assert all(400 <= each["status"] < 500 for each in problems), problems
                elif answer.status >= 400:
                    assert answer.content_type == "application/problem+json"
                    assert told["detail"]

    return Ask()


async def _in_thread(check: Any) -> None:
    await asyncio.to_thread(check)
