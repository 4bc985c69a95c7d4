"""Makes requests of a connection's bytes: HTTP/1.1, as much of it as Firehose needs, over httptools' parser."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import httptools

from audience_core.observability.logging import get_logger
from ingest_gateway import answers
from ingest_gateway.answers import Answer
from ingest_gateway.body import Body, Headers, Refused, header

FIREHOSE = b"/firehose"
MOST_HEAD = 65_536
"""Bytes of a request's line, headers and trailers, each header counted with what it takes here"""
_HEADER_TAKES = 64

log = get_logger()


@dataclass(slots=True)
class Request:
    """A request whose body is complete, or that is to be answered by `problem`."""

    method: bytes = b""
    path: bytes = FIREHOSE
    headers: Headers = ()
    keep_alive: bool = False
    body: Body | None = None
    """None when nobody wants it"""
    problem: Answer | None = None
    expects: bool = False
    """whether the sender waits for a word before it sends the body"""


class _HeadTooLarge(Exception):
    pass


class RequestReader:
    """Calls `received` with each request, in their order. After one that can't be read it reads nothing more."""

    def __init__(self, body_limit: int, received: Callable[[Request], None]) -> None:
        self._body_limit = body_limit
        self._received = received
        self._parser: Any = self._new_parser()
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head = 0
        self.began = False
        """whether a request has begun whose headers are not complete"""
        self.incoming: Request | None = None
        """the one whose body is to come"""

    def feed(self, data: bytes) -> None:
        """Parse; the `on_` methods are called meanwhile."""
        if self._parser is None:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self.end(_answer_to(error))

    def end(self, problem: Answer) -> None:
        """Read nothing more; what is under way gets this answer."""
        self.close()
        request, self.incoming = self.incoming or Request(), None
        request.problem, request.keep_alive = problem, False
        self._received(request)

    def close(self) -> None:
        """Read nothing more. The parser holds this reader, and only the collector would part them."""
        self._parser = None

    def on_message_begin(self) -> None:
        self.began = True
        self._url = b""
        self._headers = []
        self._head = 0

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + _HEADER_TAKES)
        if self.began:  # else it is a trailer
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.began = False
        parser, headers, path = self._parser, self._headers, self._url
        if parser is None or parser.should_upgrade():
            return
        if path != FIREHOSE:
            path = unquote_to_bytes(httptools.parse_url(path).path or b"")
        keep_alive = parser.should_keep_alive() and parser.get_http_version() != "1.0"
        request = self.incoming = Request(parser.get_method(), path, headers, keep_alive)
        if path == FIREHOSE:
            try:
                request.body = Body(request.method, headers, self._body_limit)
            except Refused as refused:
                request.problem = refused.answer
            request.expects = header(headers, b"expect").lower() == "100-continue"
            if request.problem is not None and (request.problem.close or request.expects):
                self.end(request.problem)

    def on_body(self, chunk: bytes) -> None:
        request = self.incoming
        if request is not None and request.body is not None:
            try:
                request.body.add(chunk)
            except Refused as refused:
                self.end(refused.answer)

    def on_message_complete(self) -> None:
        request, self.incoming = self.incoming, None
        if request is not None:
            self._received(request)

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > MOST_HEAD:
            raise _HeadTooLarge

    def _new_parser(self) -> Any:
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Nobody here speaks another protocol, and who may ask for one must do without: read the head once more, as if
        it did not ask. (The parser takes what follows for the other protocol: it would lose the body.)"""
        method = self._parser.get_method()
        if method == b"CONNECT":
            self.end(answers.NO_HTTP)
            return
        lines = [b"%b: %b\r\n" % line for line in self._headers if line[0] not in {b"upgrade", b"connection"}]
        self._parser = self._new_parser()
        self.feed(b"%b %b HTTP/1.1\r\n%b\r\n" % (method, self._url, b"".join(lines)) + rest)


def _answer_to(error: httptools.HttpParserError) -> Answer:
    cause = error.__context__
    if isinstance(cause, _HeadTooLarge):
        return answers.HEAD_TOO_LARGE
    if cause is None or isinstance(cause, httptools.HttpParserError):
        return answers.NO_HTTP
    log.error("request_not_read", error=type(cause).__name__, exc_info=cause)
    return answers.INTERNAL
