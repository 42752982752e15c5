"""Load on a real server, and the accounts of it: what was acknowledged, and what became of that.

The accounts follow the promises: a 202 is kept and ends, a second delivery is marked, at most once
is once. They take what the server says of itself and what the look-alikes saw.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import aiohttp

from clarion.domain.notification import Delivery, Status
from clarion.testing.clarion_process import ClarionProcess
from clarion.testing.client import ApiAnswer, ClarionClient

Body = Mapping[str, Any]
Order = Body | Sequence[Body]
"""One notification, or a batch of them."""

_PAUSE_S = 0.02
"""After no answer or a refusal: a server that stands up again is not to be hammered."""
_PAGE = 500
_TAKEN = frozenset({Status.SENT, Status.DELIVERED, Status.UNDELIVERED})


class Load:
    """Clients that send one after the other, through deaths and refusals, until `stop`.

    `make` gives what the n-th order (from 1) is. With `is_keyed` an order that got no answer is
    repeated under its idempotency key until it gets one, as a careful client does; without, it is
    given up. `pause_s` is the time between two orders of one client.
    """

    def __init__(
        self,
        url: str,
        make: Callable[[int], Order],
        *,
        workers: int = 4,
        is_keyed: bool = False,
        pause_s: float = 0.0,
    ) -> None:
        self.accepted: dict[str, Body] = {}
        """Everything that was answered with 202, by id."""
        self.refused: list[ApiAnswer] = []
        # Not the process's own client: that one closes at each death.
        self._client = ClarionClient(url)
        self._make = make
        self._is_keyed = is_keyed
        self._pause_s = pause_s
        self._number = 0
        self._is_over = False
        self._tasks = [asyncio.create_task(self._work()) for _ in range(workers)]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Send no more, and wait for the answers that are due."""
        self._is_over = True
        try:
            await asyncio.gather(*self._tasks)
        finally:
            await self._client.close()

    async def _work(self) -> None:
        while not self._is_over:
            self._number += 1
            number = self._number
            order = self._make(number)
            while not await self._place(number, order):
                if not self._is_keyed or self._is_over:
                    break
            await asyncio.sleep(self._pause_s)

    async def _place(self, number: int, order: Order) -> bool:
        """Send an order once; say whether it was answered, with yes or no."""
        is_single = isinstance(order, Mapping)
        path = "/v1/notifications" if is_single else "/v1/notifications/batch"
        headers = {"Idempotency-Key": f"order {number}"} if self._is_keyed and is_single else {}
        try:
            answer = await self._client.request("POST", path, json=order, headers=headers)
        except (aiohttp.ClientError, TimeoutError, OSError):
            await asyncio.sleep(_PAUSE_S)
            return False
        if answer.status != 202:
            self.refused.append(answer)
            await asyncio.sleep(_PAUSE_S)
        elif isinstance(order, Mapping):
            self.accepted[answer.body["id"]] = order
        else:
            self._note_batch(order, answer.body["results"])
        return True

    def _note_batch(self, order: Sequence[Body], results: Sequence[Body]) -> None:
        for body, result in zip(order, results, strict=True):
            if "id" in result:
                self.accepted[result["id"]] = body


async def read_all(client: ClarionClient) -> dict[str, Any]:
    """Page through every notification of a server and return them by id."""
    found: dict[str, Any] = {}
    cursor = ""
    while True:
        page = await client.request("GET", f"/v1/notifications?limit={_PAGE}{cursor}")
        found.update((item["id"], item) for item in page.body["items"])
        if page.body["next"] is None:
            return found
        cursor = f"&cursor={page.body['next']}"


async def recount_apart(process: ClarionProcess) -> list[str]:
    """Have `clarion check --recount` look at what a process left, and return what is wrong."""
    checked = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "clarion", "check", "--recount", "--json",
        cwd=process.directory, env=process.environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await checked.communicate()
    if not out:
        return [err.decode()]
    checks = json.loads(out)["checks"]
    # Not the others: how much room the disk of a test has is no concern of it.
    found = {each["name"]: each for each in checks if each["name"] in ("storage", "counts")}
    if found.keys() != {"storage", "counts"}:
        return [f"not looked at: {checks}"]
    return [f"{name}: {each['detail']}" for name, each in found.items() if not each["ok"]]


def audit(
    accepted: Mapping[str, Body], found: Mapping[str, Any], delivered: Mapping[str, int]
) -> list[str]:
    """Return every broken promise: of what was accepted, found on the server, and delivered.

    `delivered` counts by id what the look-alikes took.
    """
    broken = [f"{id} was acknowledged and is gone" for id in accepted if id not in found]
    broken += [f"{id} was delivered and is gone" for id in delivered if id not in found]
    for id, one in found.items():
        status, n = Status(one["status"]), delivered.get(id, 0)
        if status.is_live:
            broken.append(f"{id} has not ended: {status}")
        if status in _TAKEN and not n:
            broken.append(f"{id} says {status}, and nobody has it")
        if n and status not in _TAKEN and status is not Status.UNKNOWN:
            broken.append(f"{id} says {status}, and somebody has it")
        if n > 1 and not one["possibly_duplicated"]:
            broken.append(f"{id} was delivered {n} times and does not say so")
        if n > 1 and accepted.get(id, {}).get("delivery") == Delivery.AT_MOST_ONCE:
            broken.append(f"{id} was delivered {n} times at most once")
    return broken
