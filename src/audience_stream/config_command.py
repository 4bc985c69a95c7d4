"""`audience-stream config`: every setting, its value and where it came from."""

import json
import re
from typing import Annotated, Any

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from audience_core.settings import CoreSettings, load, source_of

_HIDDEN = {"kafka_options"}  # may hold a password
_USER_INFO = re.compile(r"://[^/?#]*@")


def rows() -> list[dict[str, Any]]:
    """Each setting and default once: variable, value as text with secrets hidden, source, description."""
    from audience_indexer.settings import IndexerSettings
    from ingest_gateway.settings import GatewaySettings
    from membership_worker.settings import WorkerSettings
    from segment_api.settings import ApiSettings

    found: dict[tuple[str, str], dict[str, Any]] = {}
    kinds: list[type[CoreSettings]] = [CoreSettings, GatewaySettings, WorkerSettings, IndexerSettings, ApiSettings]
    for kind in kinds:
        settings = load(kind)
        for name, field in kind.model_fields.items():
            variable, value = f"AUDIENCE_{name.upper()}", _text(name, getattr(settings, name))
            # AUDIENCE_METRICS_PORT has a default of its own in the worker and in the indexer: both are shown
            found.setdefault(
                (variable, value),
                {
                    "setting": variable,
                    "value": value,
                    "source": source_of(variable),
                    "description": field.description,
                },
            )
    return list(found.values())


def _text(name: str, value: Any) -> str:
    if isinstance(value, SecretStr) or name in _HIDDEN:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        return "***" if text else ""
    return "" if value is None else _USER_INFO.sub("://***@", str(value))  # user:password@host of an address


def config(as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """Show each setting, its value (secrets hidden) and where it came from.

    Example: AUDIENCE_SHARDS=16 audience-stream config
    """
    found = rows()
    if as_json:
        typer.echo(json.dumps(found))
        return
    table = Table("setting", "value", "source", "description")
    for row in found:
        table.add_row(*row.values())
    Console().print(table)
