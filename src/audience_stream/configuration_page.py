"""Writes `docs/configuration.md` out of the settings: `python -m audience_stream.configuration_page`."""

from datetime import timedelta
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from audience_core.settings import CoreSettings
from audience_indexer.settings import IndexerSettings
from ingest_gateway.settings import GatewaySettings
from membership_worker.settings import WorkerSettings
from segment_api.settings import ApiSettings

SECTIONS: dict[str, type[CoreSettings]] = {
    "Every service": CoreSettings,
    "Gateway": GatewaySettings,
    "Worker": WorkerSettings,
    "Indexer": IndexerSettings,
    "Segment API": ApiSettings,
}
SECRET = {"kafka_options"}
"""Settings that may hold a secret without being one; `redis_url` and the like are known by their type."""
_HEAD = """# Configuration

Written by `make docs` out of the code; a test fails when the two differ. `audience-stream config` shows each setting's
value here and now, and where it came from.

A setting is an environment variable, or a file of that name in the folder `AUDIENCE_SECRETS_DIR`, which is how secrets
are mounted; the environment has precedence, and an empty variable counts as unset. A duration is a number with a unit
(`250ms`, `30s`, `5m`, `24h`, `21d`) or bare seconds. Settings are read once, at the start; a wrong one ends the process
with exit code 2 and one line that names it. 🔒 marks what holds, or may hold, a secret.
"""
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def page() -> str:
    """Return the whole page in Markdown."""
    parts = [_HEAD]
    for title, kind in SECTIONS.items():
        own = kind.model_fields if kind is CoreSettings else kind.model_fields.keys() - CoreSettings.model_fields.keys()
        parts += [f"## {title}\n", "| variable | default | meaning |", "| --- | --- | --- |"]
        parts += [_row(name, field) for name, field in kind.model_fields.items() if name in own]
        parts.append("")
    return "\n".join(parts)


def _row(name: str, field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    secret = isinstance(default, SecretStr) or name in SECRET
    text = _text(default)
    return (
        f"| `AUDIENCE_{name.upper()}`{' 🔒' if secret else ''} | {f'`{text}`' if text else ''} | {field.description} |"
    )


def _text(default: Any) -> str:
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    if default is None or default is PydanticUndefined or default in ("", {}):
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return _duration(default) if isinstance(default, timedelta) else str(default)


def _duration(value: timedelta) -> str:
    seconds = value.total_seconds()
    for unit, size in _UNITS:
        if seconds >= size and seconds % size == 0 and not (unit == "d" and seconds < 2 * size):
            return f"{seconds / size:g}{unit}"
    return f"{seconds * 1000:g}ms"


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - it is made to be redirected into the file
