"""Answers as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

JSON_TYPE = "application/json"

# One encoder for all: `json.dumps` makes a new one for each answer that is not all defaults.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def dump(value: Any) -> bytes:
    """Write a value as JSON in UTF-8; a lone surrogate becomes its escape, which is JSON too."""
    return _encode(value).encode("utf-8", "backslashreplace")


def answer(
    value: Any,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    content_type: str = JSON_TYPE,
) -> web.Response:
    """Return a value as the answer."""
    return web.Response(body=dump(value), status=status, headers=headers, content_type=content_type)
