"""From a payload to the fields of notifications, by the templates of `[hooks.NAME]`.

::

    payload ─ when ─> each ─> item ─ when, if it looks at the item ─> fields, idempotency key
                 └─> nothing                └─> nothing

An item that cannot be mapped is an error in its place, as in a batch: it does not spoil the rest.
Whether the fields make a notification is for `domain.submission` to say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from clarion.domain.submission import FIELDS, MAX_KEY
from clarion.domain.text import Report, type_name
from clarion.errors import Fault, InvalidNotification
from clarion.hook.sandbox import BUDGET, Budget, Exhausted
from clarion.hook.template import Expression, TemplateFault, Text

MAX_ITEMS = 1_000
"""Notifications of one payload at most."""

OBJECTS = frozenset({"data", "metadata", "headers"})
"""Fields that hold an object: a table of templates, or an expression that gives it."""

_LONG_TEXTS = frozenset({"text", "html"})
_PAYLOAD = ("payload", "headers")
_ITEM = (*_PAYLOAD, "item", "index")

Leaf: TypeAlias = "Text | dict[str, Leaf] | list[Leaf] | str | bool | int | float"
Field: TypeAlias = "Leaf | Expression"
T = TypeVar("T")
Fields: TypeAlias = "dict[str, Any] | InvalidNotification"


@dataclass(frozen=True, slots=True)
class PayloadMapping:
    """How the payloads of one hook become notifications."""

    name: str
    fields: Mapping[str, Field]
    each: Expression | None = None
    when: Expression | None = None
    idempotency_key: Text | None = None

    def apply(self, payload: Any, headers: Mapping[str, str]) -> Iterator[Fields]:
        """Yield the fields of each notification, or why one could not be mapped.

        Raises InvalidNotification where `each` or `when` do not fit the payload as a whole.
        """
        variables = {"payload": payload, "headers": dict(headers), BUDGET: Budget()}
        if self.when is not None and not self._is_for_items and not self._is_wanted(variables):
            return
        for index, item in enumerate(self._items(variables)):
            found = self._item({**variables, "item": item, "index": index})
            if found is not None:
                yield found

    @property
    def literals(self) -> dict[str, str]:
        """The fields that are the same for every payload, as they will be."""
        return {
            name: field.literal if name in _LONG_TEXTS else _one_line(field.literal)
            for name, field in self.fields.items()
            if isinstance(field, Text) and field.literal is not None
        }

    @property
    def _is_for_items(self) -> bool:
        return self.when is not None and bool(self.when.names & {"item", "index"})

    def _items(self, variables: Mapping[str, Any]) -> list[Any]:
        if self.each is None:
            return [None]
        with _at(f"hooks.{self.name}.each"):
            found = self.each.evaluate(variables)
            if not isinstance(found, list):
                raise TemplateFault(f"it gives {type_name(found)}, and must give an array")
            if len(found) > MAX_ITEMS:
                raise TemplateFault(f"it gives {len(found):,} items; {MAX_ITEMS:,} are the most")
        return found

    def _is_wanted(self, variables: Mapping[str, Any]) -> bool:
        assert self.when is not None
        with _at(f"hooks.{self.name}.when"):
            return self.when.is_true(variables)

    def _item(self, variables: Mapping[str, Any]) -> Fields | None:
        """Return what an item becomes; None where `when` does not want it."""
        try:
            if self._is_for_items and not self._is_wanted(variables):
                return None
        except InvalidNotification as error:
            return error
        return self._fields(variables)

    def _fields(self, variables: Mapping[str, Any]) -> Fields:
        made: dict[str, Any] = {}
        faults: list[Fault] = []
        for name, field in self.fields.items():
            try:
                made[name] = _value(name, field, variables)
            except TemplateFault as error:
                faults.append(_fault(f"hooks.{self.name}.notification.{name}", name, error))
        try:
            made["idempotency_key"] = self._key(variables)
        except TemplateFault as error:
            faults.append(_fault(f"hooks.{self.name}.idempotency_key", "idempotency_key", error))
        if faults:
            return InvalidNotification(faults)
        return {name: value for name, value in made.items() if value is not None}

    def _key(self, variables: Mapping[str, Any]) -> str | None:
        """Return the key, which no other hook and no client has; "" and None give none."""
        if self.idempotency_key is None:
            return None
        text = _one_line(self.idempotency_key.render(variables))
        if not text:
            return None
        key = f"hook:{self.name}:{text}"
        if len(key) <= MAX_KEY:
            return key
        # Alertmanager's groupKey, for one, has no bound.
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32)
        return f"hook:{self.name}:{digest.hexdigest()}"


@contextmanager
def _at(key: str) -> Iterator[None]:
    """Turn a TemplateFault inside into an InvalidNotification that names the setting."""
    try:
        yield
    except TemplateFault as error:
        raise InvalidNotification([_fault(key, "", error)]) from error


def _fault(key: str, name: str, error: TemplateFault) -> Fault:
    return Fault(f"the setting {key} does not fit the payload: {error}", f"/{name}" if name else "")


def _value(name: str, field: Field, variables: Mapping[str, Any]) -> Any:
    """Return the value of a field; None leaves it out."""
    if isinstance(field, Expression):
        return _object(field, variables)
    if name in OBJECTS:
        return _filled(field, variables)
    assert isinstance(field, Text)
    text = field.render(variables)
    # The empty text counts as left out, as in `{{ payload.tenant | default("") }}`.
    return (text if name in _LONG_TEXTS else _one_line(text)) or None


def _one_line(text: str) -> str:
    """Turn breaks and runs of blanks into one: what a commit says on two lines is still sent."""
    return " ".join(text.split())


def _object(field: Expression, variables: Mapping[str, Any]) -> Any:
    found = field.evaluate(variables)
    if found is None:
        return None
    if not isinstance(found, dict):
        raise TemplateFault(f"it gives {type_name(found)}, and must give an object")
    budget: Budget = variables[BUDGET]
    try:
        budget.spend(len(json.dumps(found)))
    except (TypeError, ValueError, RecursionError) as error:
        raise TemplateFault("it gives what is no JSON") from error
    except Exhausted as error:
        raise TemplateFault(str(error)) from error
    return found


def _filled(field: Leaf, variables: Mapping[str, Any]) -> Any:
    match field:
        case Text():
            return field.render(variables)
        case dict():
            return {name: _filled(each, variables) for name, each in field.items()}
        case list():
            return [_filled(each, variables) for each in field]
        case _:
            return field


# --- compiling -------------------------------------------------------------------------------


def compile_mapping(
    name: str,
    fields: Mapping[str, Any],
    *,
    each: str,
    when: str,
    idempotency_key: str,
    report: Report,
) -> PayloadMapping:
    """Compile the templates of a hook; what is wrong goes to `report` with the key it has there.

    A text that is empty counts as not there.
    """
    compiler = _Compiler(_ITEM if each else _PAYLOAD, report)
    made = {field: compiler.field(field, fields.get(field, "")) for field in FIELDS}
    return PayloadMapping(
        name=name,
        fields={field: value for field, value in made.items() if value not in (None, {})},
        each=_Compiler(_PAYLOAD, report).expression("each", each),
        when=compiler.expression("when", when),
        idempotency_key=compiler.text("idempotency_key", idempotency_key),
    )


class _Compiler:
    """Compiles templates over the same variables, and reports those that it cannot."""

    def __init__(self, names: tuple[str, ...], report: Report) -> None:
        self._names = names
        self._report = report

    def field(self, name: str, value: Any) -> Any:
        key = f"notification.{name}"
        if name in OBJECTS:
            is_expression = isinstance(value, str)
            return self.expression(key, value) if is_expression else self._tree(key, value)
        return self.text(key, value, is_html=name == "html")

    def text(self, key: str, source: str, *, is_html: bool = False) -> Text | None:
        return self._compiled(key, source, lambda: Text(source, self._names, is_html=is_html))

    def expression(self, key: str, source: str) -> Expression | None:
        return self._compiled(key, source, lambda: Expression(source, self._names))

    def _compiled(self, key: str, source: str, make: Callable[[], T]) -> T | None:
        try:
            return make() if source else None
        except TemplateFault as error:
            self._report(str(error), key)
            return None

    def _tree(self, key: str, value: Any) -> Any:
        match value:
            case str():
                return self.text(key, value) or ""
            case dict():
                return {name: self._tree(f"{key}.{name}", each) for name, each in value.items()}
            case list():
                return [self._tree(key, each) for each in value]
            case bool() | int() | float():
                return value
            case _:
                self._report("must be text, a number, true, false, a list or a table", key)
                return None
