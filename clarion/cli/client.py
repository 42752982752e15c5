"""Requests to a running server, and what can come back instead of an answer.

On the standard library alone: a command that asks one question should not spend its time on
importing an HTTP framework.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from threading import Timer
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from clarion.errors import ClarionError

DEFAULT_URL: Final = "http://127.0.0.1:8080"
REQUEST_TIMEOUT_S: Final = 10.0
"""Of each wait for the network; twice what the server itself waits for an actor."""
EXCHANGE_TIMEOUT_S: Final = 60.0
"""Of all waits of one request together: a server that drips keeps nobody for longer."""
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
BUSY: Final = frozenset({429, 503})
"""What a server answers that cannot do it now, and can later."""
_JSON: Final = "application/json"
_NDJSON: Final = "application/x-ndjson"
_BYTES: Final = "surrogateescape"


class ServerUnreachable(ClarionError):
    """No Clarion answered; `is_doubtful` says whether the request may have taken effect."""

    def __init__(self, url: str, why: str, *, is_doubtful: bool = False) -> None:
        doubt = " The request was sent, so it may have taken effect." if is_doubtful else ""
        super().__init__(
            f"no Clarion answers at {url}: {why}.{doubt}"
            " Start one with `clarion serve`, or name another with --url or CLARION_URL."
        )
        self.is_doubtful = is_doubtful


class ServerProblem(ClarionError):
    """The server answered no: an HTTP status, and its problem (RFC 9457) as it came.

    `retry_after_s` is what it said of when to ask again; None where it did not.
    """

    def __init__(
        self, status: int, problem: Mapping[str, Any], *, retry_after_s: float | None = None
    ) -> None:
        detail = problem.get("detail") or problem.get("title") or f"it answered HTTP {status}"
        super().__init__(str(detail))
        self.status = status
        self.problem = dict(problem)
        self.retry_after_s = retry_after_s
        self.hint = ""
        """What to do, where a command knows more than the status tells."""

    @property
    def faults(self) -> list[tuple[str, str]]:
        """Return (pointer, detail) of each fault that the server found."""
        errors = self.problem.get("errors")
        found = errors if isinstance(errors, list) else []
        return [
            (str(each.get("pointer", "")), str(each.get("detail", "")))
            for each in found
            if isinstance(each, Mapping)
        ]


class Answer(dict[str, Any]):
    """A JSON object of the server's. What it must hold and does not, no Clarion has written."""

    def __init__(self, url: str, found: Mapping[str, Any]) -> None:
        super().__init__(found)
        self._url = url

    def __missing__(self, name: str) -> Any:
        raise _no_clarion(self._url, f"there is no {name} in its answer")


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    body: bytes | None
    headers: Mapping[str, str]

    @property
    def may_change(self) -> bool:
        return self.method != "GET"


class Server:
    """One running server.

    `url` is its base; `api_key` goes as a bearer token, "" sends none; `timeout_s` bounds each
    wait for the network, `exchange_s` a whole request. Proxies of the environment are not used
    and redirects not followed: the key goes to the named server or nowhere. Raises ValueError
    for a URL or key that cannot be.
    """

    def __init__(
        self,
        url: str,
        api_key: str = "",
        *,
        timeout_s: float = REQUEST_TIMEOUT_S,
        exchange_s: float = EXCHANGE_TIMEOUT_S,
    ) -> None:
        if not _is_base_url(url):
            raise ValueError(f"{url!r} is no URL of a server: {_likely_url(url)}")
        if not api_key.isascii() or not api_key.isprintable():
            raise ValueError("CLARION_API_KEY holds characters that no key has")
        self.url = url.rstrip("/")
        self._place = urlsplit(self.url)
        self._headers = {"Accept": "application/json, application/problem+json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._timeout_s = timeout_s
        self._exchange_s = exchange_s

    def get(self, *path: str, **query: str | None) -> Any:
        """Return the JSON object of a GET; a query value of None is left out.

        Raises ServerUnreachable, ServerProblem.
        """
        given = {name: value for name, value in query.items() if value is not None}
        return self._ask("GET", _path(path) + (f"?{_query(given)}" if given else ""))

    def get_page(self, path: str) -> Any:
        """Return the JSON object of a path outside the API, such as `/health`; raises as `get`."""
        return self._ask("GET", path)

    def post(self, *path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """Return the JSON object of a POST, None where the answer has no body; raises as `get`."""
        sent = b"" if body is None else json.dumps(body).encode()
        return self._ask("POST", _path(path), sent, {"Content-Type": _JSON, **(headers or {})})

    def post_lines(self, *path: str, lines: Sequence[bytes]) -> Any:
        """Return the JSON object of a POST of NDJSON; raises as `get`."""
        return self._ask("POST", _path(path), b"\n".join(lines), {"Content-Type": _NDJSON})

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        request = _Request(
            method, self._place.path + path, body, {**self._headers, **(headers or {})}
        )
        with closing(self._connection()) as connection, self._limited(connection) as is_over:
            is_sent = False
            try:
                connection.connect()
                response = self._send(connection, request)
                is_sent = True
                response = response or connection.getresponse()
                text = _whole(response)
            except (OSError, http.client.HTTPException) as error:
                why = self._why(error, is_late=bool(is_over))
                is_doubtful = is_sent and request.may_change
                raise ServerUnreachable(self.url, why, is_doubtful=is_doubtful) from error
        return self._read(request, response, text)

    def _connection(self) -> http.client.HTTPConnection:
        is_secure = self._place.scheme == "https"
        make = http.client.HTTPSConnection if is_secure else http.client.HTTPConnection
        return make(self._place.hostname or "", self._place.port, timeout=self._timeout_s)

    @contextmanager
    def _limited(self, connection: http.client.HTTPConnection) -> Iterator[list[bool]]:
        """Cut the exchange off when its time is over; the list is filled then."""
        is_over: list[bool] = []

        def cut() -> None:
            is_over.append(True)
            with suppress(OSError, AttributeError):
                connection.sock.shutdown(socket.SHUT_RDWR)

        timer = Timer(self._exchange_s, cut)
        timer.daemon = True
        timer.start()
        try:
            yield is_over
        finally:
            timer.cancel()

    def _send(
        self, connection: http.client.HTTPConnection, request: _Request
    ) -> http.client.HTTPResponse | None:
        """Send it; return the answer of a server that did not want to hear all of it."""
        try:
            connection.request(request.method, request.path, request.body, request.headers)
        except (BrokenPipeError, ConnectionResetError) as error:
            try:
                return connection.getresponse()
            except (OSError, http.client.HTTPException):
                raise error from None
        return None

    def _why(self, error: Exception, *, is_late: bool) -> str:
        match error:
            case _ if is_late:
                return f"no complete answer within {self._exchange_s:g} s"
            case TimeoutError():
                return f"no answer within {self._timeout_s:g} s"
            case ssl.SSLError():
                reason = (error.reason or str(error)).replace("_", " ").lower()
                return f"the secure connection could not be set up ({reason}); is it http://?"
            case http.client.HTTPException():
                return "what answers there does not speak HTTP, or broke off"
            case OSError():
                return (error.strerror or str(error)).rstrip(".").lower() or "it broke off"
            case _:
                return str(error)

    def _read(self, request: _Request, response: http.client.HTTPResponse, text: bytes) -> Any:
        is_fine = 200 <= response.status < 300
        if is_fine and not text:
            return None
        try:
            body = json.loads(text.decode("utf-8", "replace")) if text else None
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, Mapping):
            what = f"it answered HTTP {response.status} {response.reason} and no JSON object"
            # A gateway before it may have passed the request on before it gave up.
            is_doubtful = request.may_change and response.status >= 500
            raise _no_clarion(self.url, what, is_doubtful=is_doubtful)
        if is_fine:
            return Answer(self.url, body)
        retry_after_s = _seconds(response.headers.get("Retry-After"))
        raise ServerProblem(response.status, body, retry_after_s=retry_after_s)


def _no_clarion(url: str, what: str, *, is_doubtful: bool = False) -> ServerUnreachable:
    why = f"what answers there is no Clarion ({what})"
    return ServerUnreachable(url, why, is_doubtful=is_doubtful)


def _whole(response: http.client.HTTPResponse) -> bytes:
    """Return the body; raises IncompleteRead where it broke off or has no end."""
    text = response.read(MAX_ANSWER_BYTES)
    # With a limit, http.client takes what it got for all there was.
    if response.length or len(text) == MAX_ANSWER_BYTES:
        raise http.client.IncompleteRead(text)
    return text


def is_passing(error: ServerUnreachable | ServerProblem) -> bool:
    """Say whether to ask again: the server is away, starting, stopping or busy."""
    return isinstance(error, ServerUnreachable) or error.status in BUSY


def _seconds(retry_after: str | None) -> float | None:
    """Read a Retry-After; its other form, a date, is not what Clarion writes."""
    is_number = retry_after is not None and retry_after.isascii() and retry_after.isdigit()
    return float(retry_after) if retry_after is not None and is_number else None


def _likely_url(url: str) -> str:
    guess = f"http://{url}"
    is_short = "://" not in url and _is_base_url(guess)
    return f"did you mean {guess}?" if is_short else f"write it like {DEFAULT_URL}"


def _is_base_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    is_whole = not parts.query and not parts.fragment and url.isascii() and url.isprintable()
    # Name and password in a URL would be ignored: the key is all that a server knows.
    is_web = parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc
    return is_web and has_port and is_whole and " " not in url


def _path(parts: tuple[str, ...]) -> str:
    # Arguments that are no UTF-8 go as the bytes that they were: the server knows none such.
    return "".join(f"/{quote(part, safe='', errors=_BYTES)}" for part in ("v1", *parts))


def _query(given: Mapping[str, str]) -> str:
    return urlencode(given, errors=_BYTES)
