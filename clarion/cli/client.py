"""Requests to a running server, and what can come back instead of an answer.

On the standard library alone: a command that asks one question should not spend its time on
importing an HTTP framework.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from clarion.errors import ClarionError

DEFAULT_URL: Final = "http://127.0.0.1:8080"
REQUEST_TIMEOUT_S: Final = 10.0
"""Twice what the server itself waits for an actor."""
_PLAIN_BODY_CHARS: Final = 200
_JSON: Final = "application/json"
_NDJSON: Final = "application/x-ndjson"


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


class Server:
    """One running server.

    `url` is its base; `api_key` goes as a bearer token, "" sends none; `timeout_s` bounds each
    wait for the network. Proxies of the environment are not used and redirects not followed: the
    key goes to the named server or nowhere. Raises ValueError for a URL or key that cannot be.
    """

    def __init__(
        self, url: str, api_key: str = "", *, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> None:
        if not _is_base_url(url):
            raise ValueError(f"{url!r} is no URL of a server: write it like {DEFAULT_URL}")
        if not api_key.isascii() or not api_key.isprintable():
            raise ValueError("CLARION_API_KEY holds characters that no key has")
        self.url = url.rstrip("/")
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), _NoRedirect(), _AnyStatus()
        )

    def get(self, *path: str, **query: str | None) -> Any:
        """Return the JSON of a GET; a query value of None is left out.

        Raises ServerUnreachable, ServerProblem.
        """
        given = {name: value for name, value in query.items() if value is not None}
        return self._ask("GET", _path(path) + (f"?{urlencode(given)}" if given else ""))

    def post(self, *path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """Return the JSON of a POST, None where the answer has no body; raises as `get`."""
        sent = b"" if body is None else json.dumps(body).encode()
        return self._ask("POST", _path(path), sent, {"Content-Type": _JSON, **(headers or {})})

    def post_lines(self, *path: str, lines: Sequence[bytes]) -> Any:
        """Return the JSON of a POST of NDJSON; raises as `get`."""
        return self._ask("POST", _path(path), b"\n".join(lines), {"Content-Type": _NDJSON})

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            self.url + path, body, dict(headers or {}), method=method
        )
        request.add_header("Accept", "application/json, application/problem+json")
        if self._api_key:
            request.add_header("Authorization", f"Bearer {self._api_key}")
        return self._parse(*self._exchange(request))

    def _exchange(self, request: urllib.request.Request) -> tuple[int, str, str | None]:
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                text = response.read().decode("utf-8", "replace")
                return response.status, text, response.headers.get("Retry-After")
        except urllib.error.URLError as error:
            # urllib wraps what fails while it connects and sends, a time-out included.
            raise ServerUnreachable(self.url, self._why(error.reason)) from error
        except (OSError, http.client.HTTPException) as error:
            is_doubtful = request.get_method() != "GET"
            raise ServerUnreachable(self.url, self._why(error), is_doubtful=is_doubtful) from error

    def _why(self, error: object) -> str:
        match error:
            case TimeoutError():
                return f"no answer within {self._timeout_s:g} s"
            case http.client.HTTPException():
                return "what answers there does not speak HTTP, or broke off"
            case OSError():
                return (error.strerror or str(error)).rstrip(".").lower() or "it broke off"
            case _:
                return str(error)

    def _parse(self, status: int, text: str, retry_after: str | None) -> Any:
        try:
            body = json.loads(text) if text else None
        except ValueError:
            body = {"detail": text.strip()[:_PLAIN_BODY_CHARS]}
            if 200 <= status < 300:
                why = "what answers there is no Clarion (its answer is not JSON)"
                raise ServerUnreachable(self.url, why) from None
        if 200 <= status < 300:
            return body
        problem = body if isinstance(body, Mapping) else {}
        raise ServerProblem(status, problem, retry_after_s=_seconds(retry_after))


def _seconds(retry_after: str | None) -> float | None:
    """Read a Retry-After; its other form, a date, is not what Clarion writes."""
    is_number = retry_after is not None and retry_after.isascii() and retry_after.isdigit()
    return float(retry_after) if retry_after is not None and is_number else None


def _is_base_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    is_whole = not parts.query and not parts.fragment and url.isascii() and url.isprintable()
    is_web = parts.scheme in {"http", "https"} and bool(parts.hostname)
    return is_web and has_port and is_whole and " " not in url


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Leave a redirect to the caller as the answer that it is."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _AnyStatus(urllib.request.HTTPErrorProcessor):
    """Hand every answer back, where urllib would raise for a 404."""

    def http_response(
        self, request: urllib.request.Request, response: http.client.HTTPResponse
    ) -> Any:
        return response

    https_response = http_response


def _path(parts: tuple[str, ...]) -> str:
    return "".join(f"/{quote(part, safe='')}" for part in ("v1", *parts))
