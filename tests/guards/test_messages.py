"""Every message has an actor that handles it, and every actor handles only messages."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from clarion.actors import (
    call_messages,
    commons_messages,
    journal_messages,
    messages,
    redrive_messages,
    supervisor_messages,
)
from clarion.actors.actor import Actor, handlers_of
from clarion.actors.breaker import Breaker
from clarion.actors.commons import Commons
from clarion.actors.journal import Journal
from clarion.actors.messages import Internal, Request
from clarion.actors.parent import Parent
from clarion.actors.provider import Provider
from clarion.actors.queue import Queue
from clarion.actors.redrive import Redriver
from clarion.actors.retention import Retention
from clarion.storage import command, redrive_command
from clarion.storage.store import _HANDLERS
from clarion.supervisor import Supervisor

MODULES = (
    messages, supervisor_messages, call_messages, journal_messages, redrive_messages,
    commons_messages,
)  # fmt: skip
ACTORS = (Supervisor, Queue, Breaker, Provider, Journal, Redriver, Retention, Commons)


def message_classes() -> list[type]:
    """Return every class that can be sent."""
    return [
        each
        for module in MODULES
        for _, each in inspect.getmembers(module, inspect.isclass)
        if issubclass(each, Request | Internal) and each not in (Request, Internal)
    ]


def command_classes() -> list[type]:
    """Return everything that the Journal can be told."""
    return [
        each
        for module in (command, redrive_command)
        for _, each in inspect.getmembers(module, inspect.isclass)
        if issubclass(each, command.Command) and each is not command.Command
    ]


@pytest.mark.parametrize("message", message_classes(), ids=lambda each: each.__name__)
def test_a_message_is_handled_by_some_actor(message):
    """A message that nobody handles is lost work, or a leftover."""
    assert any(message in handlers_of(actor) for actor in ACTORS)


@pytest.mark.parametrize("told", command_classes(), ids=lambda each: each.__name__)
def test_a_command_is_taken_by_the_journal_and_carried_out_by_the_store(told):
    """Both ends of the one way to the disk."""
    assert told in handlers_of(Journal)
    assert told in _HANDLERS


@pytest.mark.parametrize("actor", ACTORS, ids=lambda each: each.__name__)
def test_an_actor_answers_how_it_is_and_crashes_on_purpose(actor: type[Actor]):
    """Snapshot and `clarion.testing.Crash` are part of the public contract."""
    names = {each.__name__ for each in handlers_of(actor)}

    assert {"Snapshot", "Crash"} <= names


def test_no_actor_tells_another_what_may_be_refused():
    """It raises where the mailbox is full, and would crash who told it for another's trouble."""
    refusable = {each.__name__ for each in message_classes() if issubclass(each, Request)}
    told = [
        f"{Path(inspect.getfile(actor)).name}:{call.lineno} tells {message.func.id}"
        for actor in (*ACTORS, Parent)
        for call in ast.walk(ast.parse(Path(inspect.getfile(actor)).read_text()))
        if isinstance(call, ast.Call)
        for name in (getattr(call.func, "attr", ""),)
        if name in ("tell", "_tell")
        for message in call.args
        if isinstance(message, ast.Call) and getattr(message.func, "id", "") in refusable
    ]

    assert told == []
