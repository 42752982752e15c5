"""Text and JSON that the store and the providers can take, and nothing else."""

from __future__ import annotations

import json
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.domain.text import (
    MAX_DEPTH,
    Walk,
    line_fault,
    pointer_to,
    shown,
    size_bytes,
    storable,
    text_fault,
    type_name,
)


def copied(value: Any, max_bytes: int = 1_000_000) -> tuple[Any, list[tuple[str, str]]]:
    faults: list[tuple[str, str]] = []
    walk = Walk(max_bytes, lambda detail, pointer: faults.append((pointer, detail)))
    return walk.copy(value, "/data"), faults


@pytest.mark.parametrize("sign", ["\n", "\r", "\t", "\x00", "\x1b", "\x7f", "\x85", "\u2028"])
def test_a_line_holds_no_control_character(sign: str) -> None:
    """Mail libraries break lines at all of these, and a new line is a new header."""
    fault = line_fault(f"Hi{sign}Bcc: x", 100)

    assert fault is not None
    assert "at character 2" in fault


def test_a_line_has_a_length() -> None:
    """The bound is inclusive and the fault names it."""
    assert line_fault("x" * 5, 5) is None
    assert line_fault("x" * 6, 5) == "is 6 characters long; 5 are the most"


def test_a_text_may_hold_tabs_and_line_breaks() -> None:
    """Bodies have lines."""
    assert text_fault("a\tb\r\nc \u2028 ü 😀") is None


@pytest.mark.parametrize("sign", ["\x00", "\x08", "\x0b", "\x1f", "\ud83d", "\udfff"])  # noqa: PT014
def test_a_text_holds_nothing_that_cannot_be_stored(sign: str) -> None:
    """NUL, other C0 controls and lone surrogates are refused at the door."""
    assert text_fault(f"a{sign}b") is not None


def test_a_copy_is_plain_and_shares_nothing() -> None:
    """What the sender changes later does not change what was accepted."""

    class Colour(StrEnum):
        RED = "red"

    inner = [1, 2.5, True, None]
    value = {"list": inner, "tuple": (1,), "map": MappingProxyType({"x": Colour.RED})}

    copy, faults = copied(value)
    inner.append("later")

    assert faults == []
    assert copy == {"list": [1, 2.5, True, None], "tuple": [1], "map": {"x": "red"}}
    assert type(copy["map"]["x"]) is str


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


def test_depth_is_bounded() -> None:
    """32 levels are fine, 33 are not."""
    assert copied(nested(MAX_DEPTH))[1] == []
    ((pointer, detail),) = copied(nested(MAX_DEPTH + 1))[1]
    assert pointer == "/data" + "/a" * MAX_DEPTH
    assert "32 levels" in detail


def test_an_object_that_holds_itself_ends() -> None:
    """An in-process sender can hand over what JSON cannot write."""
    value: dict[str, Any] = {}
    value["me"] = value

    assert len(copied(value)[1]) == 1


def test_an_object_that_holds_itself_many_times_over_costs_no_more_than_its_bound() -> None:
    """Without a bound on the size, 32 levels of two branches each would be four billion visits."""
    value: list[Any] = []
    for _ in range(30):
        value = [value, value]

    ((pointer, detail),) = copied(value, max_bytes=10_000)[1]

    assert pointer == "/data"
    assert "10,000 bytes" in detail


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "finite"),
        (float("inf"), "finite"),
        (2**63, "64 bits"),
        pytest.param(10**5000, "64 bits", id="what json itself cannot write"),
        ("a\x00", "control"),
        ("\ud800", "surrogate"),
        (b"x", "bytes"),
        ({1}, "set"),
        ({1: 2}, "string"),
        ({"\x00": 1}, "control"),
    ],
)
def test_what_is_no_json_is_reported_with_its_place(value: Any, words: str) -> None:
    """The pointer leads to the very value."""
    ((pointer, detail),) = copied({"a": [0, value]})[1]

    assert pointer.startswith("/data/a/1")
    assert words in detail


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(), each, max_size=4),
))  # fmt: skip
def test_what_passes_can_be_written_as_json(value: Any) -> None:
    """A copy without faults is JSON that UTF-8 can hold, and equal to what came in."""
    copy, faults = copied(value)
    if not faults:
        assert json.loads(json.dumps(copy, allow_nan=False).encode()) == value
        json.dumps(copy, ensure_ascii=False).encode()


def test_a_pointer_is_escaped() -> None:
    """RFC 6901, and nothing that cannot be sent back."""
    assert pointer_to("/data", "a/b~c") == "/data/a~1b~0c"
    pointer_to("", "\ud800").encode()
    assert len(pointer_to("", "x" * 10_000)) < 300


def test_names_from_outside_are_shown_short_and_printable() -> None:
    """A fault is read in a terminal."""
    assert shown("a\x1b") == "'a\\x1b'"
    assert len(shown("x" * 1000)) == 60
    assert shown(5) == "'int'"


@given(st.text(st.characters(codec=None)))
def test_any_text_can_be_made_storable(text: str) -> None:
    """UTF-8 holds it, PostgreSQL too, and what was fit is as it was."""
    kept = storable(text)

    kept.encode()
    assert "\0" not in kept
    assert len(kept) == len(text)
    assert all(new in (old, "\ufffd") for old, new in zip(text, kept, strict=True))


def test_sizes_are_those_of_utf8() -> None:
    """The bound is in bytes."""
    assert size_bytes("abc") == 3
    assert size_bytes("ü😀") == 6
    assert size_bytes("\ud800") == 3


@pytest.mark.parametrize(
    ("value", "name"),
    [(None, "null"), (True, "a boolean"), (1, "a number"), ("", "a string"), ([], "an array"),
     ({}, "an object"), (b"", "a bytes")],
)  # fmt: skip
def test_types_have_the_names_of_json(value: object, name: str) -> None:
    """A caller of the API knows no Python."""
    assert type_name(value) == name
