"""What one node costs by how much it holds: ten thousand rows, a hundred thousand, a million.

Rows that wait, that are held back, that are scheduled and that are finished, each against an
empty database: the store's cost of accepting, claiming and settling, the time to start, the
memory. Then critical messages beside a backlog, deliveries out of a short and a long queue, and
the batch endpoint.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from benchmarks import process
from benchmarks.depth import backlog, node, store_cost
from benchmarks.depth.backlog import Shape
from benchmarks.depth.critical import Latency
from benchmarks.depth.node import Node
from benchmarks.depth.store_cost import Depth
from benchmarks.subject import Subject, subject

TARGET = 1.2
"""The most that a full database may cost, by an empty one."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    rows: Sequence[int] = (10_000, 100_000, 1_000_000)
    store_rounds: int = 40
    started: int = 75
    """Critical messages to each process that is started."""
    critical: int = 300
    """To each backlog, in each round."""
    rounds: int = 3
    drain_s: float = 3.0
    batch: int = 10_000
    batches: int = 5


@dataclass(frozen=True, slots=True)
class Cell:
    """One shape at one depth."""

    shape: Shape
    rows: int
    store: Depth
    node: Node


@dataclass(frozen=True, slots=True)
class Beside:
    """Critical messages, and all messages, on a lane with so many rows before them."""

    rows: int
    critical: Latency
    sent_per_s: float | None
    """To a provider that answers at once; None without a queue."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Everything that was found."""

    cells: list[Cell]
    beside: list[Beside]
    batch_accepted_per_s: float

    @property
    def worst(self) -> float:
        """The largest cost of the store by the empty one's, over all cells."""
        return max(
            ratio
            for cell in self.cells
            for ratio in (
                cell.store.by_first.accept_us,
                cell.store.by_first.claim_us,
                cell.store.by_first.settle_us,
            )
        )


async def measure(size: Size, say: Callable[[str], None]) -> Scale:
    """Make the databases, one shape at a time, and measure; `say` hears what goes on."""
    cells: list[Cell] = []
    with tempfile.TemporaryDirectory(prefix="clarion-bench-") as name:
        directory = Path(name)
        for shape in Shape:
            paths = _make(directory / shape, shape, size.rows, say)
            cells += await _cells(shape, paths, size)
            if shape is not Shape.PENDING:
                _remove(paths.values())
        say("critical messages beside a backlog")
        beside = await _beside(directory / Shape.PENDING, size)
        say("the batch endpoint")
        batch = await _batch_per_s(directory, size)
    return Scale(cells, beside, batch)


def _make(
    directory: Path, shape: Shape, rows: Sequence[int], say: Callable[[str], None]
) -> dict[int, Path]:
    directory.mkdir()
    paths = {n: directory / f"{n}.db" for n in (0, *rows)}
    for n, path in paths.items():
        say(f"{n:,} {shape}")
        backlog.make(path, shape, n)
    return paths


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        for each in path.parent.glob(f"{path.name}*"):
            each.unlink()


async def _cells(shape: Shape, paths: dict[int, Path], size: Size) -> list[Cell]:
    depths = store_cost.measure(paths, size.store_rounds)
    return [
        Cell(shape, rows, depths[rows], await node.measure(path, size.started))
        for rows, path in paths.items()
    ]


async def _beside(directory: Path, size: Size) -> list[Beside]:
    # The shorter ones are sent before they are measured.
    rows = [0, *size.rows[-2:]]
    paths = [directory / f"{n}.db" for n in rows]
    latencies = await node.critical_beside(paths, size.critical, size.rounds)
    rates = await node.drained_per_s(paths[1:], size.drain_s, size.rounds)
    return [Beside(*each) for each in zip(rows, latencies, [None, *rates], strict=True)]


async def _batch_per_s(directory: Path, size: Size) -> float:
    async with (
        process.program("benchmarks.sink") as sink,
        subject(directory, sink.url, node.SLOTS) as clarion,
    ):
        await clarion.command("/v1/providers/sendgrid/disable")
        return await _fill(clarion, size)


async def _fill(clarion: Subject, size: Size) -> float:
    """Submit the batches; return how many per second were accepted.

    The time in which the bodies are written is not counted.
    """
    accepted, took_s = 0, 0.0
    for number in range(size.batches):
        body = _lines(range(number * size.batch, (number + 1) * size.batch))
        started_at = time.monotonic()
        accepted += await clarion.submit(body)
        took_s += time.monotonic() - started_at
    expected = size.batches * size.batch
    if accepted != expected:
        raise RuntimeError(f"{expected - accepted} of {expected} notifications were rejected")
    return accepted / took_s


def _lines(numbers: range) -> bytes:
    """Return NDJSON of short e-mails."""
    return b"\n".join(
        json.dumps(
            {
                "channel": "email",
                "to": f"user{number}@example.com",
                "subject": "Your order is on its way",
                "text": f"Order {number} left our house today.",
            }
        ).encode()
        for number in numbers
    )


# --- tables --------------------------------------------------------------------------------------


def tables(found: Scale) -> list[Table]:
    """Draw it."""
    return [_depth_table(found), _beside_table(found)]


def _depth_table(found: Scale) -> Table:
    table = Table(
        title="CPU us for one notification, by depth (x: by the empty database)",
        caption=f"the worst ratio is {found.worst:.2f}; the target is {TARGET}",
    )
    table.add_column("")
    for name in ("rows", "accept", "claim", "settle", "start s", "RSS MB"):
        table.add_column(name, justify="right")
    for cell in found.cells:
        us, by = cell.store.cost, cell.store.by_first
        table.add_row(
            cell.shape, f"{cell.rows:,}",
            f"{us.accept_us:.1f} x{by.accept_us:.2f}", f"{us.claim_us:.1f} x{by.claim_us:.2f}",
            f"{us.settle_us:.1f} x{by.settle_us:.2f}", f"{cell.node.start_s:.2f}",
            f"{cell.node.rss_mb:.0f}",
            end_section=cell.rows == found.cells[-1].rows,
        )  # fmt: skip
    return table


def _beside_table(found: Scale) -> Table:
    table = Table(
        title="Critical messages while a backlog goes out, in ms",
        caption=f"the batch endpoint accepts {found.batch_accepted_per_s:,.0f}/s",
    )
    for name in ("backlog", "accept p50", "p99", "delivery p50", "p99", "drained/s"):
        table.add_column(name, justify="right")
    for each in found.beside:
        ms = each.critical
        table.add_row(
            f"{each.rows:,}", f"{ms.accept_p50_ms:.1f}", f"{ms.accept_p99_ms:.1f}",
            f"{ms.delivery_p50_ms:.1f}", f"{ms.delivery_p99_ms:.1f}",
            "" if each.sent_per_s is None else f"{each.sent_per_s:,.0f}",
        )  # fmt: skip
    return table
