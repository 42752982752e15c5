"""What the columns of both databases hold. The migrations use these types, too: they stay."""

from __future__ import annotations

from sqlalchemy import REAL, BigInteger, Double, Integer, Text
from sqlalchemy.types import TypeEngine

# STRICT tables know REAL only; elsewhere REAL would be half as wide.
NUMBER: TypeEngine[float] = Double().with_variant(REAL(), "sqlite")

COUNT: TypeEngine[int] = BigInteger().with_variant(Integer(), "sqlite")
"""A number that grows for as long as the service lives."""

TEXT: TypeEngine[str] = Text().with_variant(Text(collation="C"), "postgresql")
"""Compared byte by byte: the order of ids is the order of time, in whatever language."""
