"""The benchmark of depth: its databases are such as the service leaves, its figures are whole."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from benchmarks import scale
from benchmarks.depth import backlog, store_cost
from benchmarks.depth.backlog import Shape
from clarion.storage.recount import recount
from clarion.storage.sqlite import connect_reader

ROWS = 300


@pytest.mark.parametrize("shape", Shape)
def test_a_written_backlog_reconciles(tmp_path, shape):
    """What is measured on has to be what the service would have left."""
    path = tmp_path / "made.db"

    backlog.make(path, shape, ROWS)

    with closing(connect_reader(path)) as connection:
        assert recount(connection) == []
        (accepted,) = connection.execute(
            "SELECT n FROM counts WHERE status = 'accepted'"
        ).fetchone()
    assert accepted == ROWS


def test_the_store_is_left_as_deep_as_it_was(tmp_path):
    """Each round settles as many as it accepts, so every round meets the same depth."""
    paths = {n: tmp_path / f"{n}.db" for n in (0, ROWS)}
    for n, path in paths.items():
        backlog.make(path, Shape.PENDING, n)

    found = store_cost.measure(paths, rounds=2)

    assert found[0].by_first.accept_us == 1.0
    assert min(found[ROWS].cost.accept_us, found[ROWS].cost.settle_us) > 0
    for n, path in paths.items():
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (n,)


@pytest.mark.timeout(300)
async def test_the_scale_of_a_node_is_measured_from_end_to_end(tmp_path):
    """Every shape has its row, every critical message arrives, and the tables can be drawn."""
    size = scale.Size(
        rows=[ROWS], store_rounds=1, started=5, critical=5, rounds=1, drain_s=0.2, batch=50,
        batches=1,
    )  # fmt: skip

    found = await scale.measure(size, lambda _what: None)

    assert [(cell.shape, cell.rows) for cell in found.cells] == [
        (shape, rows) for shape in Shape for rows in (0, ROWS)
    ]
    assert {cell.node.critical.count for cell in found.cells} == {5}
    assert all(cell.node.rss_mb > 10 for cell in found.cells)
    assert [each.rows for each in found.beside] == [0, ROWS]
    assert found.batch_accepted_per_s > 0
    assert [table.row_count for table in scale.tables(found)] == [8, 2]
