"""Answers of HTTP/1.1, as the services that write their own send them."""

from functools import lru_cache
from http import HTTPStatus

Header = tuple[bytes, bytes]
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


@lru_cache(maxsize=64)
def header_lines(headers: tuple[Header, ...]) -> bytes:
    """Write headers, a line each. They are the same from one answer to the next, but for the date of each second."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def whole_answer(status: int, lines: bytes, body: bytes, *, close: bool, head_only: bool) -> bytes:
    """Write an answer. `lines`: its headers, but for the body's length and whether the connection ends."""
    return b"%b%bcontent-length: %d\r\n%b\r\n%b" % (
        _STATUS_LINES[status],
        lines,
        len(body),
        b"connection: close\r\n" if close else b"",
        b"" if head_only else body,
    )
