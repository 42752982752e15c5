"""As much of HTTP/1.1 as two benchmarks' ends need: messages with a Content-Length, in order."""

from __future__ import annotations

from dataclasses import dataclass

END_OF_HEAD = b"\r\n\r\n"


class Unreadable(ValueError):
    """The peer sent what this parser does not know (a chunked body, for one)."""


@dataclass(slots=True)
class Message:
    """A request or a response."""

    first_line: bytes
    body: bytes


class Parser:
    """Cuts a stream into messages."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, received: bytes) -> list[Message]:
        """Return the messages that are complete now."""
        self._buffer = self._buffer + received if self._buffer else received
        messages: list[Message] = []
        while (message := self._cut()) is not None:
            messages.append(message)
        return messages

    def _cut(self) -> Message | None:
        end = self._buffer.find(END_OF_HEAD)
        if end < 0:
            return None
        head = self._buffer[:end]
        start = end + len(END_OF_HEAD)
        stop = start + _body_length(head)
        if len(self._buffer) < stop:
            return None
        message = Message(head.split(b"\r\n", 1)[0], self._buffer[start:stop])
        self._buffer = self._buffer[stop:]
        return message


def _body_length(head: bytes) -> int:
    folded = head.lower()
    position = folded.find(b"\r\ncontent-length:")
    if position < 0:
        if b"\r\ntransfer-encoding:" in folded:
            raise Unreadable("a body of unknown length")
        return 0
    value = folded[position + len(b"\r\ncontent-length:") :].split(b"\r\n", 1)[0]
    return int(value)


def response(status: str, body: bytes = b"", *headers: str) -> bytes:
    """Write a response; `status` is for example `200 OK`."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def request(method: str, path: str, host: str, body: bytes = b"") -> bytes:
    """Write a request with a JSON body."""
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {host}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body
