"""The Avro schemas, as they lie in files."""

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from fastavro import parse_schema

VERSION = 1


def schema_folder() -> Path:
    """Folder of the `.avsc` files: inside the installed package, or the repository's `schemas/`."""
    packaged = Path(str(files("audience_core").joinpath("schemas")))
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "schemas"


@cache
def load_schema(name: str, version: int = VERSION) -> dict[str, Any]:
    """Parse `schemas/<name>.v<version>.avsc` once."""
    text = (schema_folder() / f"{name}.v{version}.avsc").read_text("utf-8")
    parsed: Any = parse_schema(json.loads(text))
    return cast("dict[str, Any]", parsed)
