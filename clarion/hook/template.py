"""Templates and expressions over a payload: compiled at the start, evaluated for each payload.

A template gives text, an expression a value. What is wrong with either by itself (its syntax, a
name, a filter or a statement that there is not) shows when it is compiled; what it meets in a
payload is a `TemplateFault`, whose text says what was missing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from jinja2 import Template as Compiled
from jinja2 import meta, nodes
from jinja2.environment import TemplateExpression
from jinja2.exceptions import TemplateError, TemplateSyntaxError
from jinja2.runtime import Undefined

from clarion.hook.sandbox import BUDGET, COUNTED, FREE, WEIGHED, Budget, Sandbox

MAX_SOURCE = 100_000
"""Characters of a template at most: what is longer does not belong into a settings file."""

_PLAIN = Sandbox(is_html=False)
_HTML = Sandbox(is_html=True)

_STATEMENTS = (
    nodes.Output, nodes.For, nodes.If, nodes.Assign, nodes.AssignBlock, nodes.With,
    nodes.FilterBlock,
)  # fmt: skip
_WORK = (nodes.Filter, nodes.For, nodes.Call, nodes.Operand, nodes.Concat, nodes.Getitem)
_BUILT_IN = frozenset({"range"})

_EVALUATION_ERRORS = (
    # What Jinja2 and Python's own operators raise over values that they cannot work with.
    TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError,
    RecursionError,
)  # fmt: skip


class TemplateFault(ValueError):
    """A template that cannot be compiled, or that a payload does not fit; the text says why."""


class Text:
    """A template that gives text. Raises TemplateFault.

    `names` are the variables that there are; `is_html` escapes what is put in.
    """

    def __init__(self, source: str, names: Collection[str], *, is_html: bool = False) -> None:
        sandbox = _HTML if is_html else _PLAIN
        tree = _compiled(lambda: _checked(sandbox, source, source, names))
        self.literal = source if _is_literal(tree) else None
        """What it always gives; None where that depends on the payload."""
        self._compiled: Compiled = _compiled(lambda: sandbox.from_string(tree))

    def render(self, variables: Mapping[str, Any]) -> str:
        """Return the text for these variables. Raises TemplateFault."""
        budget: Budget = variables[BUDGET]
        parts = []
        try:
            for part in self._compiled.generate(variables):
                budget.spend(len(part))
                parts.append(part)
        except _EVALUATION_ERRORS as error:
            raise _fault(error) from error
        return "".join(parts)


class Expression:
    """An expression that gives a value; `names` are the variables. Raises TemplateFault."""

    def __init__(self, source: str, names: Collection[str]) -> None:
        # First by itself: in the braces below, `a }} {{ b` would be two.
        _compiled(lambda: _PLAIN.compile_expression(source))
        tree = _compiled(lambda: _checked(_PLAIN, source, f"{{{{ {source} }}}}", names))
        self.names = frozenset(meta.find_undeclared_variables(tree))
        """The variables that it looks at."""
        self._compiled: TemplateExpression = _compiled(lambda: _expression(tree))

    def evaluate(self, variables: Mapping[str, Any]) -> Any:
        """Return the value for these variables. Raises TemplateFault."""
        try:
            found = self._compiled(variables)
            if isinstance(found, Undefined):
                # Raises, but for `x if y`, which is nothing where y is false.
                found = str(found) or None
        except _EVALUATION_ERRORS as error:
            raise _fault(error) from error
        return found

    def is_true(self, variables: Mapping[str, Any]) -> bool:
        """Return whether the value counts as true. Raises TemplateFault."""
        return bool(self.evaluate(variables))


# --- compiling -------------------------------------------------------------------------------


def _checked(
    sandbox: Sandbox, source: str, template: str, names: Collection[str]
) -> nodes.Template:
    """Return the tree of a template, whose every loop is counted and whose work is weighed."""
    if len(source) > MAX_SOURCE:
        raise TemplateFault(f"is longer than {MAX_SOURCE:,} characters")
    tree = sandbox.parse(template)
    for statement in tree.find_all(nodes.Stmt):
        _check_statement(statement)
    _check_known("filter", _named(tree, nodes.Filter), sandbox.filters)
    _check_known("test", _named(tree, nodes.Test), sandbox.tests)
    _check_known("variable", meta.find_undeclared_variables(tree), {*names, *_BUILT_IN}, names)
    _meter(tree, sandbox)
    return tree


def _meter(tree: nodes.Template, sandbox: Sandbox) -> None:
    """Put `counted` before every loop, and `weighed` before what is worked on as a whole."""

    def through(name: str, value: nodes.Expr) -> nodes.Filter:
        made = nodes.Filter(value, name, [], [], None, None, lineno=value.lineno)
        made.set_environment(sandbox)
        return made

    for node in list(tree.find_all(_WORK)):
        match node:
            case nodes.For(iter=nodes.Expr() as values):
                node.iter = through(COUNTED, values)
            case nodes.Filter() if node.node is not None and node.name not in FREE:
                node.node = through(WEIGHED, node.node)
            case nodes.Getitem(arg=nodes.Slice()):
                node.node = through(WEIGHED, node.node)
            case nodes.Call(node=nodes.Getattr() as method):
                method.node = through(WEIGHED, method.node)
            case nodes.Operand():
                node.expr = through(WEIGHED, node.expr)
            case nodes.Concat():
                node.nodes = [through(WEIGHED, each) for each in node.nodes]


def _expression(tree: nodes.Template) -> TemplateExpression:
    """Return the expression of `{{ … }}`, compiled as Jinja2 itself does it."""
    output = tree.body[0]
    assert isinstance(output, nodes.Output)
    assign = nodes.Assign(nodes.Name("result", "store"), output.nodes[0], lineno=1)
    made = _PLAIN.from_string(nodes.Template([assign], lineno=1))
    return TemplateExpression(made, undefined_to_none=False)


def _check_statement(statement: nodes.Stmt) -> None:
    is_recursive = isinstance(statement, nodes.For) and statement.recursive
    if is_recursive or not isinstance(statement, _STATEMENTS):
        what = "a recursive loop" if is_recursive else f"{type(statement).__name__.lower()}"
        raise TemplateFault(f"line {statement.lineno}: {what} is not available in hooks")


def _named(tree: nodes.Template, kind: type[nodes.Filter | nodes.Test]) -> set[str]:
    return {each.name for each in tree.find_all(kind)}


def _check_known(
    what: str, used: Collection[str], known: Collection[str], told: Collection[str] | None = None
) -> None:
    for name in sorted(set(used) - set(known)):
        close = get_close_matches(name, sorted(known), n=1)
        there_are = f"; there are {', '.join(told)}" if told else ""
        hint = f"; did you mean {close[0]}?" if close else there_are
        raise TemplateFault(f"there is no {what} {name!r}{hint}")


def _is_literal(tree: nodes.Template) -> bool:
    return all(
        isinstance(each, nodes.Output)
        and all(isinstance(part, nodes.TemplateData) for part in each.nodes)
        for each in tree.body
    )


def _compiled(make: Any) -> Any:
    try:
        return make()
    except TemplateSyntaxError as error:
        raise TemplateFault(f"line {error.lineno}: {_plain(error.message or '')}") from error
    except (TemplateError, RecursionError, OverflowError, MemoryError, SyntaxError) as error:
        # Python's own compiler has limits, too, such as 20 blocks inside each other.
        raise TemplateFault(f"cannot be compiled: {_plain(str(error))}") from error


def _fault(error: BaseException) -> TemplateFault:
    if isinstance(error, RecursionError):
        return TemplateFault("the payload is nested too deeply")
    return TemplateFault(_plain(str(error)) or type(error).__name__)


def _plain(text: str) -> str:
    """Shorten what may repeat parts of a payload, and keep it printable."""
    text = text.encode("utf-8", "backslashreplace").decode().rstrip(".")
    return text if len(text) <= 300 else text[:297] + "..."
