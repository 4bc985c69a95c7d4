"""uvicorn's protocol, but the head of an answer goes out together with its body."""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD = b"HTTP/1.1 200 "
_LENGTH = b"content-length:"  # an answer without one is a stream, whose head must not wait


class WholeAnswers:
    """A transport that holds the head of an answer until its body comes: uvicorn writes them one by one, and each
    would be a call of the kernel, which a busy service feels."""

    __slots__ = ("_head", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write, or hold."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_HEAD) and _LENGTH in data:
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Write what is held: nothing follows."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        """Close when all is written."""
        self.flush()
        self._transport.close()


class WholeAnswersProtocol(HttpToolsProtocol):
    """To be given to uvicorn as `http`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wrap it."""
        super().connection_made(cast(asyncio.Transport, WholeAnswers(cast(asyncio.Transport, transport))))

    def on_response_complete(self) -> None:
        """An answer to HEAD has no body that its head could wait for."""
        cast(WholeAnswers, self.transport).flush()
        super().on_response_complete()
