"""Requests to the control API, drawn from what /openapi.json declares and then bent."""

import json
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

from tests.fuzz.mutations import bend, scalar


@dataclass(frozen=True)
class Operation:
    """One method of one path. `document` is the whole OpenAPI document, which schemas refer into."""

    method: str
    path: str
    declared: dict[str, Any]
    document: dict[str, Any]

    def missing_fields(self, status: int, body: Any) -> list[str]:
        """Fields that the declared answer requires and this one lacks; `['declaration']` for an undeclared status."""
        declared = self.declared["responses"].get(str(status))
        if declared is None:
            return ["declaration"]
        schema = declared.get("content", {}).get("application/json", {}).get("schema", {})
        required = self._resolved(schema).get("required", [])
        return [name for name in required if not isinstance(body, dict) or name not in body]

    def draw(self, random: Random, known: list[str]) -> "ApiInput":
        """A request; `known` holds ids that exist."""
        path, query = self.path, {}
        for parameter in self.declared.get("parameters", []):
            value = random.choice(known) if random.random() < 0.7 else str(scalar(random))
            if parameter["in"] == "path":
                path = path.replace("{" + parameter["name"] + "}", _quoted(value))
            elif random.random() < 0.6:
                query[parameter["name"]] = (
                    str(self._valid(random, parameter["schema"])) if random.random() < 0.5 else value
                )
        if query:
            path += "?" + urlencode(query, errors="replace")
        schema = self.declared.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        body = b""
        if schema is not None:
            value = bend(random, self._valid(random, schema)) if random.random() < 0.8 else self._valid(random, schema)
            body = json.dumps(value, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")
        elif random.random() < 0.1:
            body = b"[1]"
        return ApiInput(self.method, path, body)

    def _valid(self, random: Random, schema: dict[str, Any], depth: int = 0) -> Any:  # noqa: PLR0911 - a value a kind
        schema = self._resolved(schema)
        for choice in ("anyOf", "oneOf"):
            if choice in schema:
                return self._valid(random, random.choice(schema[choice]), depth + 1)
        if "const" in schema or "enum" in schema:
            return schema.get("const", random.choice(schema.get("enum", [None])))
        kind = schema.get("type")
        if kind == "object":
            return {name: self._valid(random, inner, depth + 1) for name, inner in schema.get("properties", {}).items()}
        if kind == "array":
            size = 0 if depth > 8 else random.choice((1, 1, 2))
            return [self._valid(random, schema.get("items", {}), depth + 1) for _ in range(size)]
        if kind == "integer":
            return random.choice((schema.get("minimum", 1), 1, 7))
        if kind == "boolean":
            return random.random() < 0.5
        return random.choice(("fuzz", "demo", "7", "A b", f"f{random.randrange(1000)}"))

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            schema = self.document["components"]["schemas"][name]
        return schema


@dataclass(frozen=True)
class ApiInput:
    """One request to the control API."""

    method: str
    path: str
    body: bytes


def operations(document: dict[str, Any]) -> list[Operation]:
    """Everything below /v1."""
    return [
        Operation(method.upper(), path, declared, document)
        for path, methods in document["paths"].items()
        if path.startswith("/v1/")
        for method, declared in methods.items()
    ]


def operation_of(every: list[Operation], method: str, template: str) -> Operation:
    """The operation of a method and a path template."""
    return next(operation for operation in every if (operation.method, operation.path) == (method, template))


def _quoted(value: str) -> str:
    return quote(value, safe="", errors="replace") or "%20"
