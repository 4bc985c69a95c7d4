"""Collects a request's body within its limits, and reads it."""

import zlib
from collections.abc import Sequence
from typing import Any

from pydantic_core import from_json

from ingest_gateway import answers
from ingest_gateway.answers import Answer

Headers = Sequence[tuple[bytes, bytes]]
"""Names in lower case"""


class Refused(Exception):
    """Ends a request with an answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def header(headers: Headers, name: bytes) -> str:
    """First header of this (lower-case) name, or an empty text."""
    for key, value in headers:
        if key == name:
            return value.decode("latin-1")
    return ""


class Body:
    """The body of a POST. Over `limit` bytes it is refused at once, whatever is still to come; one that is packed is
    unpacked when its turn comes, as far as the limit."""

    __slots__ = ("_data", "_limit", "_packed")

    def __init__(self, method: bytes, headers: Headers, limit: int) -> None:
        """Raises Refused when the headers tell that it can't be taken."""
        if method != b"POST":
            raise Refused(answers.METHOD_NOT_ALLOWED)
        length = encoding = b""
        for name, value in headers:
            if name == b"content-length":
                length = length or value
            elif name == b"content-encoding":
                encoding = encoding or value.strip().lower()
        if length.isdigit() and int(length) > limit:
            raise Refused(answers.TOO_LARGE)
        if encoding not in {b"", b"identity", b"gzip"}:
            raise Refused(answers.UNKNOWN_ENCODING)
        self._packed = encoding == b"gzip"
        self._limit = limit
        self._data: bytes | bytearray = b""

    def add(self, chunk: bytes) -> None:
        """Take what has come. Raises Refused over the limit."""
        if not self._data:
            self._data = chunk  # nearly every body comes in one piece
        elif isinstance(self._data, bytearray):
            self._data += chunk
        else:
            self._data = bytearray(self._data) + chunk
        if len(self._data) > self._limit:
            raise Refused(answers.TOO_LARGE)

    def parse(self) -> dict[str, Any]:
        """Read a JSON object. Raises Refused when it is none, not UTF-8, or nested deeper than about 200 levels."""
        data = bytes(self._data)
        return parse(_unpacked(data, self._limit) if self._packed else data)


def _unpacked(data: bytes, limit: int) -> bytes:
    unpack = zlib.decompressobj(31)
    try:
        unpacked = unpack.decompress(data, limit + 1)
    except zlib.error:
        raise Refused(answers.NO_GZIP) from None
    if len(unpacked) > limit:
        raise Refused(answers.TOO_LARGE)
    if not unpack.eof:
        raise Refused(answers.unreadable("the gzip body is cut short"))
    if unpack.unused_data:
        raise Refused(answers.unreadable("there is more behind the gzip body"))
    return unpacked


def parse(body: bytes) -> dict[str, Any]:
    """As Body.parse."""
    try:
        message = from_json(body, cache_strings="keys")  # ids are all different: looking for them costs a tenth
    except ValueError:
        raise Refused(answers.unreadable("the body is not JSON in UTF-8")) from None
    if not isinstance(message, dict):
        raise Refused(answers.unreadable("the body is not a JSON object"))
    return message
