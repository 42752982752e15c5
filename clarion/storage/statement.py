"""How the writer's statements are made: built with SQLAlchemy Core, compiled once, at import.

They run on the raw connection, six row writes of a delivery in 9 us against 21 us through Core.
The statements themselves stand beside the code that runs them; each says which values it takes,
in order. States are literals, since SQLite uses a partial index only for a query that repeats
its condition.
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import ColumnElement, Executable, Table, bindparam, insert, literal_column
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql import ClauseElement, operators
from sqlalchemy.sql.elements import UnaryExpression

from clarion.domain.notification import JobState

_DIALECT = sqlite.dialect(paramstyle="named")
_PLACEHOLDER = re.compile(r"(?<![:\w]):(\w+)")


def literal(sql: str) -> ColumnElement[Any]:
    """Return a constant that stands in the SQL itself."""
    return literal_column(sql)


def aside(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the column with a sign that keeps SQLite from choosing an index for it."""
    return UnaryExpression(column, operator=operators.custom_op("+"), type_=column.type)


NULL, ZERO, ONE = literal("NULL"), literal("0"), literal("1")
READY, TIMED, SENDING, SCHEDULED = (literal(str(int(state))) for state in JobState)


def prepare(statement: Executable, *names: str) -> str:
    """Write the statement as SQL for SQLite, its parameters numbered in the order of `names`."""
    assert isinstance(statement, ClauseElement)
    compiled = statement.compile(dialect=_DIALECT)
    given: dict[str, Any] = dict(compiled.params)
    missing = set(names) - set(given)
    if missing:
        raise ValueError(f"the statement takes no parameter {', '.join(sorted(missing))}")

    def number(match: re.Match[str]) -> str:
        name = match[1]
        if name in names:
            return f"?{names.index(name) + 1}"
        constant = given[name]
        if not isinstance(constant, int):
            raise ValueError(f"the parameter {name} is not declared")
        return str(constant)

    return _PLACEHOLDER.sub(number, str(compiled))


def insert_row(table: Table) -> str:
    """Insert a whole row if its key is new, the values in the order of the table's columns."""
    return f"{_insert(table)} ON CONFLICT DO NOTHING"


def replace_row(table: Table) -> str:
    """Insert a whole row in place of any with its key, values in the order of the columns."""
    return _insert(table).replace("INSERT INTO", "INSERT OR REPLACE INTO", 1)


def _insert(table: Table) -> str:
    names = [column.name for column in table.c]
    statement = insert(table).values({name: bindparam(name) for name in names})
    return prepare(statement, *names)
