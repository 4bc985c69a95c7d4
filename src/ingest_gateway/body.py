"""Reads a request's body within its limits."""

import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from pydantic_core import from_json

from ingest_gateway import answers
from ingest_gateway.answers import Answer

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Refused(Exception):
    """Ends a request with an answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Disconnected(Exception):
    """The sender went away."""


def header(headers: list[tuple[bytes, bytes]], name: bytes) -> str:
    """First header of this (lower-case) name, or an empty text."""
    for key, value in headers:
        if key == name:
            return value.decode("latin-1")
    return ""


async def read(receive: Receive, scope: MutableMapping[str, Any], limit: int) -> bytes:
    """Return the unpacked body of a POST. Raises Refused over `limit` bytes, counted while they stream in, unpacked."""
    if scope["method"] != "POST":
        raise Refused(answers.METHOD_NOT_ALLOWED)
    headers = scope["headers"]
    length = header(headers, b"content-length")
    if length.isdigit() and int(length) > limit:
        raise Refused(answers.TOO_LARGE)
    encoding = header(headers, b"content-encoding")
    if encoding and (encoding := encoding.strip().lower()) not in {"", "identity", "gzip"}:
        raise Refused(answers.UNKNOWN_ENCODING)
    unpack = zlib.decompressobj(31) if encoding == "gzip" else None
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunk: bytes = message.get("body", b"")
        body += chunk if unpack is None else _unpacked(unpack, chunk, limit + 1 - len(body))
        if len(body) > limit:
            raise Refused(answers.TOO_LARGE)
        more = message.get("more_body", False)
    if unpack is not None and not unpack.eof:
        raise Refused(answers.unreadable("the gzip body is cut short"))
    return bytes(body)


def _unpacked(unpack: Any, chunk: bytes, room: int) -> bytes:
    try:
        data: bytes = unpack.decompress(chunk, room)
    except zlib.error:
        raise Refused(answers.unreadable("the body is not gzip")) from None
    return data


def parse(body: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises Refused when it is none, is not UTF-8, or is nested deeper than about 200 levels."""
    try:
        message = from_json(body)
    except ValueError:
        raise Refused(answers.unreadable("the body is not JSON in UTF-8")) from None
    if not isinstance(message, dict):
        raise Refused(answers.unreadable("the body is not a JSON object"))
    return message
