"""Templates of hooks: what they give, what is told at the start, and what no payload can do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.hook.sandbox import BUDGET, Budget
from clarion.hook.template import Expression, TemplateFault, Text

NAMES = ("payload", "headers")
PAYLOAD = {
    "items": [1, 2.5, {"a": None, "b": True}],
    "name": "<b>Ada\nLovelace",
    "n": 3,
    "many": list(range(450)),
    "labels": {"zone": "eu", "team": "blue"},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "b", "items", "get"]) | st.text(max_size=3), inner)
    ),
    max_leaves=12,
)


def variables(payload: Any = None, budget: Budget | None = None) -> dict[str, Any]:
    return {
        "payload": PAYLOAD if payload is None else payload,
        "headers": {},
        BUDGET: budget or Budget(),
    }


def rendered(source: str, *, is_html: bool = False, payload: Any = None) -> str:
    return Text(source, NAMES, is_html=is_html).render(variables(payload))


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("plain", "plain"),
        ("{{ payload.n }}", "3"),
        ("{{ payload.items }}", '[1, 2.5, {"a": null, "b": true}]'),
        ("{{ payload.items[2].a }}|{{ payload.items[2].b }}", "|true"),
        ("{{ payload.nope | default('d') }}", "d"),
        ("{{ payload.get('nope', 'd') }}", "d"),
        ("{{ payload.name.splitlines() | first }}", "<b>Ada"),
        ("{{ payload.labels | dictsort | map('join', '=') | join(' ') }}", "team=blue zone=eu"),
        ("{% for name in payload.labels %}{{ loop.index }}{{ name }} {% endfor %}", "1zone 2team "),
        ("{% for k, v in payload.labels.items() %}{{ k }}{{ v }}{% endfor %}", "zoneeuteamblue"),
        ("{% if payload.n > 2 %}\nmany\n{% endif %}\n", "many\n"),
        ("{% set a = payload.n * 2 %}{{ a }}", "6"),
        ("{{ (1999 / 100) | round(1) }}", "20.0"),
        ("{{ range(3) | list }}", "[0, 1, 2]"),
        ("{{ payload.name | replace('Ada', 'A.') | truncate(5, true, '') }}", "<b>A."),
    ],
)
def test_a_template_gives_text(source, text):
    """Values print as JSON does, null as nothing."""
    assert rendered(source) == text


def test_what_is_put_into_html_is_escaped():
    """The title of an issue brings no markup into anybody's mail."""
    assert rendered("<p>{{ payload.name }}</p>", is_html=True) == "<p>&lt;b&gt;Ada\nLovelace</p>"
    assert rendered("<p>{{ payload.labels }}</p>", is_html=True).count("<") == 2


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("{{ payload.nope }}", "there is no 'nope' in an object that has items, name, n, many"),
        ("{{ payload.nope.deeper }}", "there is no 'nope' in an object"),
        ("{{ payload.items[9] }}", "there is no 9 in an array"),
        ("{{ payload.n.nope }}", "there is no 'nope' in a number"),
        ("{{ payload.n + 'a' }}", "unsupported operand"),
        ("{{ payload.n / 0 }}", "division by zero"),
        ("{% for each in payload.n %}{% endfor %}", "not iterable"),
        ("{{ payload() }}", "not callable"),
    ],
)
def test_a_payload_that_does_not_fit_is_told(source, told):
    """What was missing, where, and what is there instead."""
    with pytest.raises(TemplateFault, match=told):
        rendered(source)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("{{ paylod.n }}", "no variable 'paylod'; did you mean payload?"),
        ("{{ item }}", "no variable 'item'; there are payload, headers"),
        ("{{ payload.n | trunkate }}", "no filter 'trunkate'; did you mean truncate?"),
        ("{% if payload.n is nope %}{% endif %}", "no test 'nope'"),
        ("\n{% if %}", "line 2: "),
        ("{{ payload. }}", "line 1: "),
        ("{{ payload", "line 1: "),
        ("{% macro a() %}{% endmacro %}", "macro is not available"),
        ("{% include 'x' %}", "include is not available"),
        ("{% import 'x' as x %}", "import is not available"),
        ("{% extends 'x' %}", "extends is not available"),
        ("{% block a %}{% endblock %}", "block is not available"),
        ("{% for a in payload recursive %}{% endfor %}", "recursive loop is not available"),
        ("{{ cycler }}{{ namespace }}{{ lipsum }}{{ dict }}", "no variable"),
        ("x" * 100_001, "longer than"),
        ("{% if 1 %}" * 200 + "{% endif %}" * 200, "cannot be compiled"),
        ("{{ " + "+".join("1" * 20_000) + " }}", "cannot be compiled"),
    ],
)
def test_a_template_that_cannot_work_is_a_fault_of_the_settings(source, told):
    """It shows when it is compiled, not when an alert is on."""
    with pytest.raises(TemplateFault, match=told.replace("?", r"\?")):
        Text(source, NAMES)


@pytest.mark.parametrize("source", ["payload }}{{ payload", "1 +", "", "payload.n ==", "paylod"])
def test_an_expression_that_cannot_work_is_one_too(source):
    """Nothing may follow it either."""
    with pytest.raises(TemplateFault):
        Expression(source, NAMES)


@pytest.mark.parametrize(
    "source",
    [
        "{{ payload.__class__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ payload['__class__'] }}",
        "{{ payload.get.__globals__ }}",
        "{{ [payload] | map(attribute='__class__') | list }}",
        "{{ self.__init__ }}",
        "{{ range.__self__ }}",
        "{{ payload.update({'a': 1}) }}",
        "{{ payload.items.append(1) }}",
        "{{ payload.name.format(1) }}",
        "{{ payload.name.encode() }}",
        "{{ payload.name.ljust(99999999999) }}",
        "{{ payload.name * 99999999999 }}",
        "{{ payload.items * 99999999999 }}",
        "{{ '%099999999999d' % 1 }}",
        "{{ 9 ** payload.n }}",
        "{{ range(99999999999) }}",
        "{{ payload.many | join('x' ~ payload.many) }}",
        "{{ payload.name | replace('', 'x' ~ payload.many) }}",
        "{{ payload.n | round(99999999999) }}",
        "{% set x = payload.name %}" + "{% set x = x + x %}" * 40,
        "{% set x = payload.many %}" + "{% set x = x + x %}" * 40,
        "{% set x = payload.n + 2 %}" + "{% set x = x * x %}" * 40,
        "{{ [payload.many] | sum(start=[]) }}",
        "{% for a in payload.many %}{% for b in payload.many %}{% endfor %}{% endfor %}",
    ],
)
def test_a_template_reaches_nothing_and_fills_no_memory(source):
    """Whatever the payload holds: no attribute of Python, no product of text, no endless loop."""
    with pytest.raises(TemplateFault):
        rendered(source)


def test_all_templates_of_a_payload_share_one_budget():
    """Many items cost no more than few."""
    shared = variables(budget=Budget(steps=1_000, chars=10_000))
    text = Text("{% for each in payload.many %}{{ each }}{% endfor %}", NAMES)

    text.render(shared)
    text.render(shared)

    with pytest.raises(TemplateFault, match="steps"):
        text.render(shared)
    with pytest.raises(TemplateFault, match="characters"):
        Text("{{ payload.many }}", NAMES).render(variables(budget=Budget(chars=100)))


@pytest.mark.parametrize(
    "work",
    [
        "{{ payload.long | title | length }}", "{{ payload.long.split() | length }}",
        "{{ 'x' in payload.long }}", "{% set x = payload.long ~ '' %}",
        "{{ payload.large | sort | length }}", "{{ payload.large == payload.large }}",
        "{% filter upper %}{{ payload.long }}{% endfilter %}",
        "{% set x = payload.large[1:] %}", "{% set x = payload.long[::2] %}",
        "{% set x %}{{ payload.large }}{% endset %}", "{% set x = payload.long + '' %}",
    ],
)  # fmt: skip
def test_work_in_a_loop_costs_by_the_size_of_what_is_worked_on(work):
    """Quadratic templates end by their budget, too; by turns alone they would take minutes."""
    payload = {"long": "a " * 50_000, "large": list(range(10_000)), "many": [0] * 5_000}
    template = Text(f"{{% for each in payload.many %}}{work}{{% endfor %}}", NAMES)

    with pytest.raises(TemplateFault, match="for one payload"):
        template.render(variables(payload))


def test_what_costs_nothing_is_not_counted_by_size():
    """`payload.alerts | length` in each of a thousand notifications is no work."""
    payload = {"many": [{"a": n} for n in range(1_000)]}
    source = "{% for each in payload.many %}{{ payload.many | length }}{{ each.a }}{% endfor %}"

    assert rendered(source, payload=payload)


def test_a_text_without_expressions_is_known_to_be_one():
    """So that a channel that is not configured is told at the start."""
    assert Text("email", NAMES).literal == "email"
    assert Text("{{ payload.channel }}", NAMES).literal is None


@pytest.mark.parametrize(
    "source",
    [
        "{{ payload.a.b }}", "{{ payload[0] }}", "{{ payload | tojson }}", "{{ payload.items() }}",
        "{{ payload + 1 }}", "{{ payload * 2 }}", "{{ payload | sort | join }}",
        "{% for each in payload %}{{ each.a }}{% endfor %}", "{{ payload | sum(attribute='a') }}",
        "{{ payload | int }}{{ payload | float }}", "{{ payload | groupby('a') | list }}",
        "{{ payload | round }}", "{{ payload | urlencode }}", "{{ payload.get('a') < 3 }}",
        "{{ payload | dictsort }}", "{{ payload | max }}", "{{ payload.split() }}",
        "{{ payload ~ 1 }}",
        "{{ payload | truncate(3) | title }}", "{{ payload | map('upper') | unique | list }}",
    ],
)  # fmt: skip
@given(payload=JSON, is_html=st.booleans())
def test_any_payload_gives_text_or_a_fault(source, payload, is_html):
    """Nothing else escapes, so a hook never answers 500."""
    try:
        found = Text(source, NAMES, is_html=is_html).render(variables(payload or [payload]))
    except TemplateFault as error:
        assert str(error)
    else:
        assert isinstance(found, str)
