"""Inputs that were found or that reach an answer of their own; the default suite sends every one of them again."""

import hashlib
import json
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

from tests.fuzz.mutations import API_KEY, Input
from tests.fuzz.openapi import ApiInput

FOLDER = Path(__file__).parent / "corpus"
_MOST_BYTES = 4096
_ACCOUNT = "demo"


def save(found: Input | ApiInput, template: str, seen: str) -> None:
    """Keep an input, unless it is long. `template` names the API's operation; `seen` says what came of it."""
    if len(found.body) > _MOST_BYTES:
        return
    entry: dict[str, Any] = {"seen": seen, "body": b64encode(found.body).decode()}
    if isinstance(found, ApiInput):
        entry |= {"method": found.method, "path": found.path, "template": template}
    else:
        entry |= {"encoding": found.encoding}
    text = json.dumps(entry, indent=1) + "\n"
    FOLDER.mkdir(exist_ok=True)
    kind = "api" if isinstance(found, ApiInput) else "firehose"
    (FOLDER / f"{kind}-{hashlib.sha256(seen.encode()).hexdigest()[:12]}.json").write_text(text, "utf-8")


def load(path: Path, account: str, api_key: str) -> tuple[Input | ApiInput, str]:
    """An input and the template of its operation ('' for Firehose), for the account and the key of a running system."""
    entry = json.loads(path.read_text("utf-8"))
    body = b64decode(entry["body"])
    if "method" in entry:
        place = entry["path"].replace(f"/accounts/{_ACCOUNT}/", f"/accounts/{account}/")
        return ApiInput(entry["method"], place, body), entry["template"]
    return Input(body.replace(API_KEY.encode(), api_key.encode()), entry["encoding"]), ""
