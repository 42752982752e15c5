"""Every error has exactly one problem, and says it in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from clarion import errors
from clarion.errors import ClarionError, Fault
from clarion.http.problem import KINDS, problem_of

PATH = "/v1/notifications"


def tree(cls: type[ClarionError] = ClarionError) -> list[type[ClarionError]]:
    """Return a class and all below it, of `clarion.errors`."""
    below = [each for sub in cls.__subclasses__() for each in tree(sub)]
    return [cls, *below] if cls.__module__ == errors.__name__ else below


def raised(cls: type[ClarionError]) -> ClarionError:
    """Return an error of a class as Clarion raises it."""
    arguments: dict[type[ClarionError], tuple[Any, ...]] = {
        errors.SettingsError: ([Fault("secret detail", "server.port")],),
        errors.InvalidNotification: ([Fault("to is missing", "/to")],),
        errors.NotFound: ("notification", "x"),
        errors.CircuitOpen: ("sendgrid", 12.5),
        errors.RedisAway: ("Redis at cache:6379", "it does not answer", 1.0),
        errors.IdempotencyConflict: ("k",),
    }
    return cls(*arguments.get(cls, ("the reason in words",)))


STATUSES = {
    errors.ClarionError: 500, errors.SettingsError: 500, errors.WouldDeadlock: 500,
    errors.InvalidNotification: 422, errors.IdempotencyConflict: 422,
    errors.NotFound: 404, errors.Conflict: 409, errors.LaneFull: 429,
    errors.Refused: 503, errors.MailboxFull: 503, errors.LaneClosed: 503,
    errors.StorageUnavailable: 503, errors.Unanswered: 503, errors.CircuitOpen: 503,
    errors.ActorError: 503, errors.ActorDead: 503, errors.AskTimeout: 503,
    errors.RedisAway: 503, errors.StoreLocked: 503,
    errors.StoreTaken: 503,
}  # fmt: skip


def test_no_error_is_unmapped():
    """The table names the whole tree, and nothing that is not in it."""
    assert set(KINDS) == set(tree())
    assert set(STATUSES) == set(tree())


@pytest.mark.parametrize("cls", tree(), ids=lambda cls: cls.__name__)
async def test_each_error_is_answered_as_its_problem(served, serve_front, cls, mail):
    """Status, whole problem, and Retry-After wherever coming back makes sense."""
    error = raised(cls)

    class Failing:
        channels = ("email",)

        async def submit(self, *_args, **_options):
            raise error

    failing = await serve_front(replace(served.front, service=Failing()))
    answer = await failing.post(PATH, mail)

    assert answer.status == STATUSES[cls]
    assert answer.is_problem
    assert ("Retry-After" in answer.headers) == (answer.status in (429, 503))
    if answer.status == 500:
        assert "secret detail" not in answer.text
        assert "the reason" not in answer.text
    elif cls not in (errors.InvalidNotification, errors.NotFound):
        assert answer.json["detail"].lower() == str(error).lower()


async def test_a_bug_is_answered_without_its_insides(served, serve_front, mail):
    """500, and nothing of what the exception said."""

    class Broken:
        channels = ("email",)

        async def submit(self, *_args, **_options):
            raise KeyError("password=hunter2")

    broken = await serve_front(replace(served.front, service=Broken()))
    answer = await broken.post(PATH, mail)

    assert answer.status == 500
    assert answer.is_problem
    assert "hunter2" not in answer.text


def test_a_class_of_a_caller_is_what_its_base_is():
    """An error that somebody derives has its base's problem."""

    class OurConflict(errors.Conflict):
        pass

    assert problem_of(OurConflict("no")).kind is KINDS[errors.Conflict]


def test_kinds_have_names_of_their_own():
    """A program tells problems apart by `type`: two that differ in status differ in name."""
    by_name: dict[str, int] = {}
    for kind in KINDS.values():
        assert by_name.setdefault(kind.name, kind.status) == kind.status


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1/notifications/", 404),
        ("GET", "//v1/stats", 404),
        ("GET", "/%00", 404),
        ("GET", "/%ff", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/v1/queues/email/pause", 405),
        ("PUT", "/v1/notifications", 405),
        ("DELETE", "/health", 405),
        ("OPTIONS", "/v1/stats", 405),
        ("POST", "/v1/queues/pigeon/pause", 404),
        ("POST", "/v1/queues/email/explode", 404),
        ("POST", "/v1/providers/none/enable", 404),
        ("POST", "/v1/breakers/none/open", 404),
        ("POST", "/v1/breakers/outbox/explode", 404),
        ("GET", "/v1/stats?x=1", 422),
        ("GET", "/v1/queues?%00=%ff", 422),
    ],
)
async def test_what_is_not_there_is_a_problem_too(served, method, path, status):
    """404 and 405 in the shape of all errors; 405 says what is allowed."""
    answer = await served.raw(
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    )
    head, _, body = answer.partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 %d" % status)
    assert b"application/problem+json" in head
    assert b'"detail"' in body
    assert (b"\r\nAllow: " in head) == (status == 405)


async def test_a_problem_of_a_long_address_is_short(served):
    """What came in is not sent back by the kilobyte."""
    answer = await served.get("/" + "x" * 5000)

    assert answer.status == 404
    assert len(answer.json["detail"]) < 200
