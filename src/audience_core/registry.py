"""A Confluent Schema Registry, when one is configured: ids of our schemas, and schemas of the ids that we read.

Subjects are named by the record (RecordNameStrategy), since one topic holds several kinds of record.
"""

import json
from typing import Any

import httpx
from fastavro import parse_schema

from audience_core.codec import CURRENT, Codec
from audience_core.errors import PermanentError, PoisonRecord, RetryableError
from audience_core.schema_files import VERSION, load_schema, schema_folder
from audience_core.settings import CoreSettings

_TIMEOUT_S = 5.0
_NAMESPACE = "com.abtasty.audiences"


class SchemaRegistry:
    """Asks once per schema and id, then remembers: neither ever changes."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url.rstrip("/"), timeout=_TIMEOUT_S)
        self._ids: dict[str, int] = {}
        self._schemas: dict[int, tuple[str, dict[str, Any]]] = {}

    def id_of(self, name: str) -> int:
        """Register the current schema of this name, or find it, and return its id.

        Raises RetryableError when the registry is away, PermanentError when it refuses the schema.
        """
        if name not in self._ids:
            text = (schema_folder() / f"{name}.v{VERSION}.avsc").read_text("utf-8")
            answer = self._call("POST", f"/subjects/{_NAMESPACE}.{name}/versions", json={"schema": text})
            if answer.status_code != httpx.codes.OK:
                raise PermanentError(f"the schema registry refused {name}: status {answer.status_code}")
            number = self._ids[name] = int(answer.json()["id"])
            self._schemas[number] = (name, load_schema(name))  # so that no reading waits for the registry either
        return self._ids[name]

    def schema_of(self, schema_id: int) -> tuple[str, dict[str, Any]]:
        """(record name, parsed writer's schema) of an id. Raises PoisonRecord for an unknown or foreign one."""
        if schema_id not in self._schemas:
            answer = self._call("GET", f"/schemas/ids/{schema_id}")
            if answer.status_code != httpx.codes.OK:
                raise PoisonRecord("unknown_schema", f"the registry knows no schema {schema_id}")
            raw = json.loads(answer.json()["schema"])
            if not isinstance(raw, dict) or raw.get("namespace") != _NAMESPACE:
                raise PoisonRecord("unknown_schema", f"schema {schema_id} is not one of {_NAMESPACE}")
            parsed: Any = parse_schema(raw)
            self._schemas[schema_id] = (str(raw["name"]), parsed)
        return self._schemas[schema_id]

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **options)
        except httpx.TransportError as error:
            raise RetryableError(f"the schema registry does not answer: {type(error).__name__}") from error
        if answer.is_server_error:
            raise RetryableError(f"the schema registry failed with status {answer.status_code}")
        return answer

    def close(self) -> None:
        """Free the connections."""
        self._client.close()


def make_codec(settings: CoreSettings) -> Codec:
    """The process's codec: Confluent framing when a registry is configured, else single-object encoding.

    Every schema is registered here, at the start, so that no request ever waits for the registry. Raises RetryableError
    when it is away.
    """
    if settings.schema_registry_url is None:
        return Codec()
    registry = SchemaRegistry(settings.schema_registry_url)
    for name in CURRENT:
        registry.id_of(name)
    return Codec(registry)
