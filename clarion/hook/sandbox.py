"""Where the templates of hooks run: Jinja2's sandbox, narrowed to what a mapping needs.

The settings' author writes the templates, the world writes the payloads. So what counts is that no
payload can make a template cost much or reach anything: values are plain JSON, methods and filters
are those listed here, work and output draw on the `Budget` of the payload, and nothing multiplies
text. There is no I/O, no clock and no chance in here: the same payload always gives the same
notifications, which is what idempotency keys rest on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from jinja2 import (
    Environment,
    StrictUndefined,
    pass_context,
    pass_environment,
    pass_eval_context,
)
from jinja2.exceptions import SecurityError, TemplateRuntimeError
from jinja2.filters import FILTERS, do_join, do_replace, do_round, do_sum
from jinja2.nodes import EvalContext
from jinja2.runtime import Context, LoopContext, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from clarion.domain.text import shown, type_name

MAX_STEPS = 50_000
"""Steps for one payload, all its templates together: turns of loops, and what filters, methods and
comparisons are given, by its size. A step takes some 5 us, and 16 us in the slowest filter."""
MAX_CHARS = 4_000_000
"""Characters written for one payload, all its notifications together."""
MAX_RANGE = 1_000
MAX_INSERTED = 100
"""Characters that `replace` and `join` may put in at each place."""
MAX_BITS = 20_000
"""Of a product of integers; a payload's have at most 4,300 digits."""
MAX_DIGITS = 15
"""Decimal places of `round`: what a float has."""

BUDGET = " budget"
"""The variable that holds the `Budget`: by its blank, no template can name it."""

COUNTED = "counted"
"""The filter that every loop is made to run through: a step for each turn."""
WEIGHED = "weighed"
"""The filter that what is worked on is made to run through: a step for so many parts of it."""

FREE = frozenset({COUNTED, WEIGHED, "count", "d", "default", "first", "last", "length"})
"""Filters that cost the same whatever they are given."""
_MEMBERS_PER_STEP = 10
_CHARS_PER_STEP = 100
_CHARS_PER_MEMBER = 8

_METHODS: dict[type, frozenset[str]] = {
    dict: frozenset({"get", "items", "keys", "values"}),
    list: frozenset({"count", "index"}),
    str: frozenset({
        "capitalize", "count", "endswith", "find", "isdigit", "lower", "lstrip", "partition",
        "removeprefix", "removesuffix", "rpartition", "rsplit", "rstrip", "split", "splitlines",
        "startswith", "strip", "title", "upper",
    }),
    LoopContext: frozenset({
        "changed", "cycle", "first", "index", "index0", "last", "length", "nextitem", "previtem",
        "revindex", "revindex0",
    }),
    tuple: frozenset({"grouper", "list"}),
}  # fmt: skip
"""What may be asked of a value by its type; `tuple` for what `groupby` gives."""

_FILTERS = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float",
    "groupby", "int", "items", "last", "length", "list", "lower", "map", "max", "min", "reject",
    "rejectattr", "reverse", "select", "selectattr", "sort", "string", "striptags", "title",
    "tojson", "trim", "truncate", "unique", "upper", "urlencode", "wordcount",
)  # fmt: skip


class Exhausted(TemplateRuntimeError):
    """A payload costs more than it may."""


class Budget:
    """What the templates of one payload may still cost."""

    __slots__ = ("_chars", "_steps")

    def __init__(self, steps: int = MAX_STEPS, chars: int = MAX_CHARS) -> None:
        self._steps = steps
        self._chars = chars

    def step(self, n: int = 1) -> None:
        """Take some steps. Raises Exhausted."""
        self._steps -= n
        if self._steps < 0:
            raise Exhausted(f"it takes more than {MAX_STEPS:,} steps for one payload")

    def spend(self, chars: int) -> None:
        """Take what is written. Raises Exhausted."""
        self._chars -= chars
        if self._chars < 0:
            raise Exhausted(f"more than {MAX_CHARS:,} characters are written for one payload")


class Missing(StrictUndefined):
    """What is not there: any use of it but `default` and `is defined` is an error that says so."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        name, value = self._undefined_name, self._undefined_obj
        if self._undefined_hint:
            return self._undefined_hint
        where = f" in {type_name(value)}" if isinstance(name, str | int) else ""
        wanted = shown(name) if isinstance(name, str) else repr(name)[:60]
        return f"there is no {wanted}{where}{_names_in(value)}"


def _names_in(value: object) -> str:
    if not isinstance(value, dict) or not value:
        return ""
    names = [str(name)[:40] for name in list(value)[:10]]
    return f" that has {', '.join(names)}{' …' if len(value) > len(names) else ''}"


class Sandbox(ImmutableSandboxedEnvironment):
    """A Jinja2 environment that no payload can get the better of."""

    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def __init__(self, *, is_html: bool) -> None:
        super().__init__(
            undefined=Missing,
            autoescape=is_html,
            finalize=_printed,
            trim_blocks=True,
            lstrip_blocks=True,
            cache_size=0,
        )
        self.globals = {"range": _range}
        self.filters = {name: FILTERS[name] for name in _FILTERS} | {
            "join": _join, "replace": _replace, "round": _round, "sum": _sum,
            COUNTED: _counted, WEIGHED: _weighed,
        }  # fmt: skip

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Look into objects first: a payload's `items` is not the method of that name.

        The base class would hand out `str.format`, whose widths know no bound.
        """
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        if isinstance(obj, Undefined):
            str(obj)  # says what is not there
        if self.is_safe_attribute(obj, attribute, None):
            return getattr(obj, attribute)
        return self.undefined(obj=obj, name=attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Look at what stands in an object, an array or a text, and at nothing else."""
        try:
            return obj[argument]
        except (TypeError, LookupError):
            return self.undefined(obj=obj, name=argument)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether it is one of the few methods that there are."""
        return any(isinstance(obj, kind) and attr in names for kind, names in _METHODS.items())

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Multiply numbers only: text times a number is how a short template fills the memory.

        So does text that is added to itself again and again: it counts as written each time.
        """
        for value in (left, right):
            if isinstance(value, Undefined):
                str(value)
        if operator == "+":
            budget: Budget = context[BUDGET]
            budget.spend(_size(left) + _size(right))
            return super().call_binop(context, operator, left, right)
        if operator == "**" or not (_is_number(left) and _is_number(right)):
            _refuse(f"{operator} of {type_name(left)} and {type_name(right)}")
        if operator == "*" and _bits(left) + _bits(right) > MAX_BITS:
            _refuse("a number of so many digits")
        return super().call_binop(context, operator, left, right)


def _size(value: object) -> int:
    """Return the characters of a text; a member of an array takes as much room as some of them."""
    if isinstance(value, str):
        return len(value)
    return len(value) * _CHARS_PER_MEMBER if isinstance(value, list | tuple) else 0


def _bits(value: object) -> int:
    return value.bit_length() if isinstance(value, int) else 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _refuse(what: str) -> NoReturn:
    raise SecurityError(f"{what} is not available in hooks")


@pass_context
def _printed(context: Context, value: Any) -> Any:
    """Print as JSON does, and null as nothing; what a template prints to itself costs, too."""
    budget: Budget = context[BUDGET]
    printed = _text_of(value)
    if isinstance(printed, str):
        budget.step(len(printed) // _CHARS_PER_STEP)
    return printed


def _text_of(value: Any) -> Any:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case dict() | list():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return value


def _range(*bounds: int) -> range:
    made = range(*bounds)
    if len(made) > MAX_RANGE:
        _refuse(f"a range of more than {MAX_RANGE:,} numbers")
    return made


@pass_context
def _counted(context: Context, values: Iterable[Any]) -> Iterator[Any]:
    budget: Budget = context[BUDGET]
    for value in values:
        budget.step()
        yield value


@pass_context
def _weighed(context: Context, value: Any) -> Any:
    budget: Budget = context[BUDGET]
    if isinstance(value, str):
        budget.step(len(value) // _CHARS_PER_STEP)
    elif isinstance(value, list | dict):
        budget.step(len(value) // _MEMBERS_PER_STEP)
    return value


def _short(text: Any) -> Any:
    if isinstance(text, str) and len(text) > MAX_INSERTED:
        _refuse(f"to put in text of more than {MAX_INSERTED} characters")
    return text


@pass_eval_context
def _join(context: EvalContext, value: Any, d: str = "", attribute: Any = None) -> str:
    return str(do_join(context, value, _short(d), attribute))


@pass_eval_context
def _replace(context: EvalContext, s: str, old: str, new: str, count: int | None = None) -> str:
    return do_replace(context, s, old, _short(new), count)


@pass_environment
def _sum(
    environment: Environment, iterable: Iterable[Any], attribute: Any = None, start: Any = 0
) -> Any:
    if not _is_number(start):
        _refuse(f"to add up to {type_name(start)}")  # anew for each member: the square of the size
    return do_sum(environment, iterable, attribute, start)


def _round(value: float, precision: int = 0, method: Any = "common") -> float:
    if not 0 <= precision <= MAX_DIGITS:
        _refuse(f"to round to {str(precision)[:20]} places")
    return do_round(value, precision, method)
