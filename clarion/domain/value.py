"""Values: classes of which nobody changes an instance, as the type checker sees to.

A frozen dataclass sees to it at run time as well, by setting each field through a call. To make
one of ten fields then takes four times as long, and a dozen are made for every notification. So
what is made that often is a `value_class`; what is not stays a frozen dataclass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def value_class(cls: type[T]) -> type[T]:
    """Make a slotted dataclass that compares and hashes by its fields; `cls` only names them."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
