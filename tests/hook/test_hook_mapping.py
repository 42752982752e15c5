"""From a payload to notifications, with the examples of docs/hooks.md and real payloads."""

from __future__ import annotations

from typing import Any

import pytest

from clarion.domain.submission import FIELDS
from clarion.errors import InvalidNotification
from clarion.hook.mapping import MAX_ITEMS, OBJECTS, compile_mapping

FIXED = {"channel": "email", "to": "ada@example.com", "text": "x"}


def faults_of(**spec: Any) -> dict[str, str]:
    """Return what is wrong with a hook, by key."""
    found: dict[str, str] = {}
    build(lambda detail, key: found.__setitem__(key, detail), **spec)
    return found


def build(report: Any = None, **spec: Any) -> Any:
    def fail(detail: str, key: str) -> None:
        raise AssertionError(f"{key}: {detail}")

    return compile_mapping(
        "x",
        spec.get("notification", FIXED),
        each=spec.get("each", ""),
        when=spec.get("when", ""),
        idempotency_key=spec.get("idempotency_key", ""),
        report=report or fail,
    )


def mapped(payload: Any, headers: Any = None, **spec: Any) -> list[Any]:
    return list(build(**spec).apply(payload, headers or {}))


# --- what real systems send --------------------------------------------------------------------


def test_alertmanager_gives_one_notification_for_each_alert(sample, example):
    """The one that fires and the one that is over."""
    firing, resolved = mapped(sample("alertmanager"), **example("alertmanager"))

    assert firing["subject"] == "[FIRING] InstanceDown db-1.example.com:9100"
    assert resolved["subject"] == "[RESOLVED] InstanceDown web-2.example.com:9100"
    assert firing["priority"] == "critical"
    assert firing["reference"] == "1a30ba71cca2921f"
    assert firing["metadata"]["instance"] == "db-1.example.com:9100"
    assert firing["text"].splitlines() == [
        "db-1.example.com:9100 of job node has been down for more than 5 minutes.",
        "",
        "since 2026-02-06T13:08:45.828Z",
        "alertname: InstanceDown",
        "instance: db-1.example.com:9100",
        "job: node",
        "severity: critical",
        "",
        "http://prometheus.example.com:9090/graph?g0.expr=up+%3D%3D+0&g0.tab=1",
    ]
    assert firing["idempotency_key"] != resolved["idempotency_key"]


def test_grafana_gives_one_notification_for_a_group(sample, example):
    """As Grafana words it, to the team of its label."""
    (found,) = mapped(sample("grafana"), **example("grafana"))

    assert found["to"] == "blue@example.com"
    assert found["subject"] == "[FIRING:1] High CPU usage Production (blue eu-1)"
    assert found["text"].startswith("**Firing**\n\nValue: B=97.47")
    assert "viewPanel=4" in found["text"]
    assert found["metadata"] == {"state": "firing", "alerts": "1"}
    assert mapped(sample("grafana") | {"status": "resolved"}, **example("grafana")) == []


def test_github_gives_one_for_a_new_issue_and_none_for_a_ping(sample, example):
    """What people wrote is escaped in HTML and nowhere else."""
    hook = example("github")
    (found,) = mapped(sample("github_issues"), {"x-github-event": "issues"}, **hook)

    assert found["subject"] == "octocat/Hello-World#1347: Found a bug in <b>parsing</b>"
    assert "Found a bug in &lt;b&gt;parsing&lt;/b&gt;" in found["html"]
    assert found["idempotency_key"] == "hook:x:issue 1 opened"
    assert mapped(sample("github_ping"), {"x-github-event": "ping"}, **hook) == []


def test_github_gives_one_for_each_commit(sample, example):
    """Of the default branch alone; a message of many lines is a subject of one."""
    hook, push = example("github_push"), sample("github_push")
    (found,) = mapped(push, {"x-github-event": "push"}, **hook)

    assert found["subject"] == "Hello-World: Accept an empty input"
    assert "It used to crash." in found["text"]
    assert mapped(push | {"ref": "refs/heads/x"}, {"x-github-event": "push"}, **hook) == []


def test_stripe_gives_one_for_a_failed_payment(sample, example):
    """To the customer."""
    (found,) = mapped(sample("stripe"), **example("stripe"))

    assert (found["to"], found["tenant"]) == ("ada@example.com", "cus_NeZwdNtLEOXuvB")
    assert "19.99 EUR" in found["text"]
    assert found["idempotency_key"] == "hook:x:evt_1NG8Du2eZvKYlo2CUI79vXWy"
    assert mapped(sample("stripe") | {"type": "invoice.paid"}, **example("stripe")) == []


# --- when and each -----------------------------------------------------------------------------


def test_when_is_asked_before_each_unless_it_looks_at_the_item():
    """A payload of another kind need not have the array."""
    each = {"each": "payload.alerts"}

    assert mapped({"kind": "ping"}, when="payload.kind == 'alert'", **each) == []
    found = mapped({"alerts": [1, 2, 3]}, when="item > 1 and index < 2", **each)
    assert len(found) == 1


def test_an_item_that_does_not_fit_spoils_no_other():
    """It is an error in its place, with all that is wrong."""
    notification = {**FIXED, "subject": "{{ item.a }}", "reference": "{{ item.b }}"}
    bad, good = mapped([{}, {"a": 1, "b": 2}], each="payload", notification=notification)

    assert good["subject"] == "1"
    assert [fault.pointer for fault in bad.faults] == ["/subject", "/reference"]
    assert "hooks.x.notification.subject does not fit the payload" in bad.faults[0].detail


@pytest.mark.parametrize(
    ("spec", "key"),
    [
        ({"each": "payload"}, "hooks.x.each does not fit the payload: it gives an object"),
        ({"each": "payload.nope"}, "hooks.x.each does not fit the payload: there is no 'nope'"),
        ({"each": "payload.many"}, f"it gives {MAX_ITEMS + 1:,} items"),
        ({"when": "payload.nope"}, "hooks.x.when does not fit the payload"),
    ],
)
def test_a_payload_that_does_not_fit_as_a_whole_is_refused(spec, key):
    """Naming the setting."""
    with pytest.raises(InvalidNotification, match=key):
        mapped({"many": [0] * (MAX_ITEMS + 1)}, **spec)


def test_when_that_fails_for_an_item_is_an_error_of_the_item():
    """The others go on."""
    bad, good = mapped([{}, {"a": 1}], each="payload", when="item.a")

    assert isinstance(bad, InvalidNotification)
    assert good["text"] == "x"


# --- fields ------------------------------------------------------------------------------------


def test_an_empty_field_is_left_out_and_a_line_is_one_line():
    """Both are what a template cannot easily help."""
    notification = {
        **FIXED, "tenant": "{{ payload.a | default('') }}", "subject": " a\r\n {{ payload.b }} ",
        "text": " a\n b ", "metadata": "payload.c",
    }  # fmt: skip
    (found,) = mapped({"b": "b\tc", "c": None}, notification=notification)

    assert found == {
        "channel": "email", "to": "ada@example.com", "subject": "a b c", "text": " a\n b ",
    }  # fmt: skip


@pytest.mark.parametrize("field", sorted(OBJECTS))
def test_an_object_is_a_table_of_templates_or_an_expression(field):
    """What a template has no part in stays as it is."""
    table = {"a": "{{ payload.n }}", "b": 1, "c": [True, "{{ payload.n }}"], "d": {"e": ""}}
    (found,) = mapped({"n": 7}, notification={**FIXED, field: table})
    assert found[field] == {"a": "7", "b": 1, "c": [True, "7"], "d": {"e": ""}}

    (found,) = mapped({"n": {"k": [1]}}, notification={**FIXED, field: "payload.n"})
    assert found[field] == {"k": [1]}

    (bad,) = mapped({"n": [1]}, notification={**FIXED, field: "payload.n"})
    assert "must give an object" in bad.faults[0].detail
    (bad,) = mapped({}, notification={**FIXED, field: "{'a': payload.items}"})
    assert "no JSON" in bad.faults[0].detail


def test_every_field_of_a_request_can_be_mapped():
    """No field of the API is out of a hook's reach."""
    notification = {
        name: {"a": "{{ payload }}"} if name in OBJECTS else "{{ payload }}" for name in FIELDS
    }
    (found,) = mapped("v", notification=notification)

    assert found == {name: {"a": "v"} if name in OBJECTS else "v" for name in FIELDS}


def test_a_key_is_of_its_hook_alone_and_never_too_long():
    """Alertmanager's groupKey has no bound; no client can hit the key of a hook by chance."""
    (short,) = mapped("k", idempotency_key="{{ payload }}")
    (long,) = mapped("k" * 5_000, idempotency_key="{{ payload }}")
    (other,) = mapped("k" * 5_001, idempotency_key="{{ payload }}")
    (none,) = mapped("", idempotency_key="{{ payload }}")

    assert short["idempotency_key"] == "hook:x:k"
    assert len(long["idempotency_key"]) < 255
    assert long["idempotency_key"] != other["idempotency_key"]
    assert "idempotency_key" not in none


def test_every_fault_of_a_hook_is_told_with_its_key():
    """All at once."""
    found = faults_of(
        each="payload.",
        when="nope",
        idempotency_key="{{",
        notification={
            **FIXED, "subject": "{{ nope }}", "metadata": "nope",
            "data": {"a": {"b": "{{ nope }}"}},
            "headers": {"a": object()},
        },
    )  # fmt: skip

    assert sorted(found) == [
        "each", "idempotency_key", "notification.data.a.b", "notification.headers.a",
        "notification.metadata", "notification.subject", "when",
    ]  # fmt: skip


def test_without_each_there_is_no_item():
    """And `each` itself has none either."""
    assert "item" in faults_of(when="item")["when"]
    assert "item" in faults_of(each="item.x")["each"]
