"""Heads of HTTP/1.1 answers, as the services that write their own send them."""

from functools import lru_cache
from http import HTTPStatus

Header = tuple[bytes, bytes]
STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


@lru_cache(maxsize=64)
def header_lines(headers: tuple[Header, ...]) -> bytes:
    """Write headers, a line each. They are the same from one answer to the next, but for the date of each second."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])
