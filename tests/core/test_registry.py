"""Confluent framing, against a registry that keeps schemas as the real one does."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from audience_core.codec import Codec
from audience_core.errors import PoisonRecord, RetryableError
from audience_core.registry import SchemaRegistry

ERASED = {"account": "a", "mpid": "1", "received_at": 2, "request_id": "r"}


@pytest.fixture
def registry_url() -> Iterator[str]:
    schemas: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            schema = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["schema"]
            if schema not in schemas:
                schemas.append(schema)
            self._answer(200, {"id": 300 + schemas.index(schema)})

        def do_GET(self) -> None:
            number = int(self.path.rsplit("/", 1)[1]) - 300
            known = 0 <= number < len(schemas)
            self._answer(200 if known else 404, {"schema": schemas[number]} if known else {"error_code": 40403})

        def _answer(self, status: int, body: object) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_record_goes_out_in_confluent_framing_and_comes_back(registry_url: str) -> None:
    writer, reader = SchemaRegistry(registry_url), SchemaRegistry(registry_url)
    data = Codec(writer).encode("VisitorErased", ERASED)
    assert data[:5] == b"\x00" + (300).to_bytes(4, "big")
    assert Codec(reader).decode(data) == ("VisitorErased", ERASED)
    writer.close()
    reader.close()


def test_what_was_written_here_is_read_without_asking(registry_url: str) -> None:
    registry = SchemaRegistry(registry_url)
    data = Codec(registry).encode("VisitorErased", ERASED)
    registry.close()
    assert Codec(registry).decode(data) == ("VisitorErased", ERASED)


def test_a_reader_with_a_registry_still_reads_single_object_encoding(registry_url: str) -> None:
    registry = SchemaRegistry(registry_url)
    assert Codec(registry).decode(Codec().encode("VisitorErased", ERASED)) == ("VisitorErased", ERASED)
    registry.close()


def test_an_unknown_schema_id_is_poison(registry_url: str) -> None:
    registry = SchemaRegistry(registry_url)
    with pytest.raises(PoisonRecord, match="unknown_schema"):
        Codec(registry).decode(b"\x00\x00\x00\x00\x07body")
    registry.close()


def test_a_registry_that_is_away_is_a_passing_fault() -> None:
    registry = SchemaRegistry("http://127.0.0.1:1")
    with pytest.raises(RetryableError):
        registry.id_of("VisitorErased")
    registry.close()
