"""The head of an answer waits for its body, and for nothing else."""

from typing import Any, cast

import pytest

from audience_core.whole_answers import WholeAnswers

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Sent:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.written.append(b"closed")

    def is_closing(self) -> bool:
        return b"closed" in self.written


@pytest.mark.parametrize(
    ("parts", "written"),
    [
        ([HEAD, b"[]"], [HEAD + b"[]"]),
        ([HEAD, b""], [HEAD]),
        ([HEAD, b"[]", HEAD, b"{}"], [HEAD + b"[]", HEAD + b"{}"]),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", HEAD, b"[]"], [b"HTTP/1.1 100 Continue\r\n\r\n", HEAD + b"[]"]),
        ([b"HTTP/1.1 400 Bad Request\r\n\r\nno"], [b"HTTP/1.1 400 Bad Request\r\n\r\nno"]),
        ([STREAM, b"1"], [STREAM, b"1"]),
        ([], []),
        ([HEAD], [HEAD]),
    ],
)
def test_what_is_written_is_sent_whole_and_nothing_is_left_when_it_closes(
    parts: list[bytes], written: list[bytes]
) -> None:
    sent = Sent()
    transport = WholeAnswers(cast(Any, sent))
    for part in parts:
        transport.write(part)
    transport.close()
    assert sent.written == [*written, b"closed"]
    assert transport.is_closing()
