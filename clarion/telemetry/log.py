"""Logs: structlog for ours, the same lines for what libraries log through the standard library.

Readable on a terminal, one JSON object a line elsewhere, timestamps in UTC. Before a line is
rendered, every value in it is masked, tracebacks included: an address that slips into a log call
or into a foreign exception reaches no log.
"""

from __future__ import annotations

import atexit
import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping
from queue import Full, Queue
from threading import Lock, Thread
from typing import IO, Any, Final

import structlog

from clarion.telemetry.mask import HIDDEN, mask_address, mask_text

log = structlog.get_logger(__name__)

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

_TRUSTED = frozenset({"timestamp", "level", "logger", "notification_id", "channel", "provider"})
"""Keys whose values are ours: an id must stay whole to be found again."""
_ADDRESSES = frozenset({"to", "from", "recipient", "address", "from_address", "from_number"})
_SECRETS = (
    "api_key", "apikey", "authorization", "auth_token", "cookie", "password", "private_key",
    "secret", "token",
)  # fmt: skip
_MAX_WAITING_LINES = 10_000
"""Lines that a stalled reader may owe us, some 3 MB; what comes then is dropped and counted."""
_FLUSH_S = 2.0
"""How long the end of the process waits for the last lines."""
_DEPTH = 6
"""Nesting that is still masked value by value; what lies deeper is masked as one text."""
_MAX_TEXT = 20_000
"""Characters of one value: a traceback of a deep recursion is longer than anybody reads."""
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127) if chr(code) != "\t"}

_Event = MutableMapping[str, Any]
_Processor = Callable[[Any, str, _Event], Any]


def configure(
    level: str = "INFO",
    json: bool | None = None,
    stream: IO[str] | None = None,
    *,
    in_background: bool = False,
) -> None:
    """Send all logs of this process to `stream` (None: standard error), from `level` on.

    `json` True writes one object a line, False coloured text, None decides by whether `stream` is
    a terminal. `in_background` writes from a thread, so that a reader that stalls (a paused pager,
    a log driver) stops the log and not the event loop. May be called again; the last call counts.
    Raises ValueError for another level.
    """
    if level.upper() not in LEVELS:
        raise ValueError(f"{level!r} is no log level: choose one of {', '.join(LEVELS)}")
    make = _BackgroundSink if in_background else _Sink
    sink = make(sys.stderr if stream is None else stream)
    number = logging.getLevelNamesMapping()[level.upper()]
    as_json = not sink.isatty() if json is None else json
    shared = _shared_processors()
    rendering = _rendering(as_json, has_colors=sink.isatty())
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, *shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=sink),  # type: ignore[arg-type]
        # A logger that kept the first configuration could not be configured again.
        cache_logger_on_first_use=False,
    )
    _route_standard_logging(sink, number, shared, rendering)


def bind_correlation(id: str) -> None:
    """Put `correlation_id` into every line logged from now on in this task; "" takes it away."""
    if id:
        structlog.contextvars.bind_contextvars(correlation_id=id)
    else:
        structlog.contextvars.unbind_contextvars("correlation_id")


def mask_event(_logger: Any, _method: str, event: _Event) -> _Event:
    """Mask every value of an event, and the event itself, as a structlog processor."""
    return {key: _mask_value(key, value, _DEPTH) for key, value in event.items()}


def _shared_processors() -> list[_Processor]:
    return [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _rendering(as_json: bool, *, has_colors: bool) -> list[_Processor]:
    if as_json:
        return [
            structlog.processors.format_exc_info,
            mask_event,
            structlog.processors.JSONRenderer(),
        ]
    console = structlog.dev.ConsoleRenderer(colors=has_colors, pad_event_to=28)
    return [structlog.processors.format_exc_info, mask_event, _escape_controls, console]


def _route_standard_logging(
    sink: _Sink, number: int, shared: list[_Processor], rendering: list[_Processor]
) -> None:
    foreign: list[_Processor] = [
        structlog.contextvars.merge_contextvars,
        *shared,
        structlog.stdlib.add_logger_name,
    ]
    handler = logging.StreamHandler(sink)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=foreign,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    for former in [each for each in root.handlers if isinstance(each.formatter, _FORMATTER)]:
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(number)
    # One line per request is what metrics tell already, and it names recipients in its query.
    logging.getLogger("aiohttp.access").setLevel(max(number, logging.WARNING))
    # A first start would greet its reader with ten lines about Alembic's plugins.
    logging.getLogger("alembic").setLevel(max(number, logging.WARNING))


_FORMATTER = structlog.stdlib.ProcessorFormatter


def _mask_value(key: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float) or key in _TRUSTED:
        return value
    name = key.lower()
    if any(secret in name for secret in _SECRETS):
        return HIDDEN
    if name in _ADDRESSES and isinstance(value, str):
        return mask_address(value)
    if isinstance(value, Mapping) and depth:
        return {str(inner): _mask_value(str(inner), of, depth - 1) for inner, of in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth:
        return [_mask_value(key, each, depth - 1) for each in value]
    return mask_text(_text(value))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value[:_MAX_TEXT]
    try:
        return str(value)[:_MAX_TEXT]
    except Exception:
        # What a foreign object does in its __str__ must not cost the line that names it.
        return f"<{type(value).__name__}>"


def _escape_controls(_logger: Any, _method: str, event: _Event) -> _Event:
    """Keep a value from starting a line of its own or steering the terminal (JSON escapes both)."""
    return {key: _escape(key, of) if isinstance(of, str) else of for key, of in event.items()}


def _escape(key: str, text: str) -> str:
    if key == "exception":
        return "\n".join(line.translate(_CONTROLS) for line in text.split("\n"))
    return text.translate(_CONTROLS)


class _Sink:
    """A stream that cannot hurt: a reader that went away costs the line, not the process."""

    def __init__(self, stream: IO[str] | None) -> None:
        self._stream = stream
        self._lock = Lock()

    def write(self, text: str) -> int:
        """Write and flush; what cannot be written is dropped."""
        if self._stream is not None:
            try:
                with self._lock:
                    self._write(self._stream, text)
                    self._stream.flush()
            except (OSError, ValueError):
                # EPIPE, a full disk under the log, a stream closed at exit.
                pass
        return len(text)

    @staticmethod
    def _write(stream: IO[str], text: str) -> None:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            stream.write(text.encode("ascii", "backslashreplace").decode("ascii"))

    def flush(self) -> None:
        """Do nothing: each write is flushed."""

    def isatty(self) -> bool:
        """Whether a person reads along."""
        try:
            return self._stream is not None and self._stream.isatty()
        except (OSError, ValueError):
            return False


class _BackgroundSink(_Sink):
    """A sink whose writes happen in a thread; `write` never waits."""

    def __init__(self, stream: IO[str] | None) -> None:
        super().__init__(stream)
        self._lines: Queue[str | None] = Queue(_MAX_WAITING_LINES)
        self._dropped = 0
        self._thread = Thread(target=self._run, name="log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def write(self, text: str) -> int:
        """Hand over to the thread; drop it where too much waits already."""
        try:
            self._lines.put_nowait(text)
        except Full:
            self._dropped += 1
        return len(text)

    def close(self, timeout_s: float = _FLUSH_S) -> None:
        """Write what waits, as far as the reader takes it in time."""
        atexit.unregister(self.close)
        try:
            self._lines.put(None, timeout=timeout_s)
        except Full:
            return
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            super().write(line)
            if self._dropped and self._lines.empty():
                dropped, self._dropped = self._dropped, 0
                log.warning("log_lines_dropped", n=dropped)
