"""Collects a request's body within its limits, and reads it."""

import zlib
from typing import Any

from pydantic_core import from_json

from ingest_gateway import answers
from ingest_gateway.answers import Answer

Headers = list[tuple[bytes, bytes]]
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
    """The body of a POST, unpacked as it comes. Over `limit` bytes it is refused at once, whatever is still to come."""

    __slots__ = ("_data", "_limit", "_unpack")

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
        self._unpack = zlib.decompressobj(31) if encoding == b"gzip" else None
        self._limit = limit
        self._data: bytes | bytearray = b""

    def add(self, chunk: bytes) -> None:
        """Take what has come. Raises Refused over the limit, and for what is no gzip."""
        if self._unpack is not None:
            try:
                chunk = self._unpack.decompress(chunk, self._limit + 1 - len(self._data))
            except zlib.error:
                raise Refused(answers.NO_GZIP) from None
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
        if self._unpack is not None and not self._unpack.eof:
            raise Refused(answers.unreadable("the gzip body is cut short"))
        return parse(bytes(self._data))


def parse(body: bytes) -> dict[str, Any]:
    """As Body.parse."""
    try:
        message = from_json(body)
    except ValueError:
        raise Refused(answers.unreadable("the body is not JSON in UTF-8")) from None
    if not isinstance(message, dict):
        raise Refused(answers.unreadable("the body is not a JSON object"))
    return message
