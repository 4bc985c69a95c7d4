"""Valid bodies of mParticle, changed in their structure: what a broken, hostile or merely newer sender may send."""

import copy
import gzip
import json
import zlib
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

VECTORS = Path(__file__).parents[1] / "vectors"

_SCALARS: list[Any] = [
    None, True, False, 0, -0.0, -1, 1.5, 2**31 - 1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63),
    10**40, 1e308, float("nan"), float("inf"), float("-inf"), "", " ", "0", "-1", "007", "1e3", "NaN", "true", "null",
    "add", "remove", "delete", "ADD", "x" * 257, "x" * 5000, "\u0000", "\n", "\u202e", "é🙂", "\ud83d", "e\u0301",
    "a@example.com", "{s1}:c", "../..", "2021-11-01T15:00:00Z", "a:b", "*",
]  # fmt: skip
_KEYS = [
    "type",
    "id",
    "mpid",
    "action",
    "account",
    "audiences",
    "",
    "__proto__",
    "apiKey",
    "audienceEpoch",
    "é",
    "\ud800",
]
_ENCODINGS = ["", "identity", "gzip", "GZIP", "br", "deflate", "gzip, gzip", "x" * 300]
_CHARSETS = ["utf-8-sig", "utf-16", "utf-32", "latin-1"]


_DEEP_ENOUGH = 100
"""levels from which a message is left as it is: changes upon changes would outgrow what this process can write"""

API_KEY = "key-of-the-corpus"
"""stands in kept inputs where the key of the running system belongs"""


class Input(NamedTuple):
    """One request to the Firehose endpoint."""

    body: bytes
    encoding: str = ""


def seeds(api_key: str) -> list[Any]:
    """Every readable vector, with an API key that exists."""
    found = []
    for path in sorted(VECTORS.glob("*.json")):
        try:
            message = json.loads(path.read_bytes())
        except ValueError:
            continue
        if isinstance(message, dict):
            account = message.get("account")
            settings = account.get("account_settings") if isinstance(account, dict) else None
            if isinstance(settings, dict):
                settings["apiKey"] = api_key
            found.append(message)
    return found


def mutate(random: Random, messages: list[Any]) -> Input:
    """Change a message's structure a few times, then perhaps its bytes."""
    message = copy.deepcopy(random.choice(messages))
    for _ in range(random.choice((0, 1, 1, 2, 3, 8))):
        message = _changed(random, message, messages)
    body = _encoded(random, message)
    if random.random() < 0.15:
        body = _damaged(random, body)
    return _packed(random, body)


def scalar(random: Random) -> Any:
    """A value that is often handled wrongly."""
    return random.choice(_SCALARS)


def bend(random: Random, value: Any) -> Any:
    """Change a value's structure once or a few times."""
    for _ in range(random.choice((1, 1, 2, 4))):
        value = _changed(random, value, [value])
    return value


def _changed(random: Random, message: Any, messages: list[Any]) -> Any:
    """Change one place of a message: replace, remove, rename, repeat, nest or graft."""
    places = list(_places(message)) if _depth(message) <= _DEEP_ENOUGH else []
    if not places:
        return message or random.choice(_SCALARS)
    holder, key = random.choice(places)
    value = holder[key]
    kind = random.randrange(8)
    if kind == 0:
        holder[key] = random.choice(_SCALARS)
    elif kind == 1:
        del holder[key]
    elif kind == 2 and isinstance(holder, dict):
        holder[random.choice(_KEYS)] = holder.pop(key)
    elif kind == 3 and isinstance(holder, list):
        holder.extend([copy.deepcopy(value)] * random.choice((1, 2, 50)))
    elif kind == 4:
        holder[key] = random.choice(([value], {"x": value}, [[value]], str(value), {}, []))
    elif kind == 5:
        other, place = random.choice(list(_places(random.choice(messages))) or [(holder, key)])
        holder[key] = copy.deepcopy(other[place])
    elif kind == 6:
        holder[key] = _nested(value, random.choice((5, 150, 300)))
    elif isinstance(holder, dict):
        holder[random.choice(_KEYS)] = random.choice(_SCALARS)
    return message


def _places(value: Any) -> Any:
    """(container, key) of every value inside."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)


def _depth(message: Any) -> int:
    """Levels of containers, however many."""
    depth, level = 0, [message]
    while level := [value for value in level if isinstance(value, dict | list)]:
        depth += 1
        level = [inner for value in level for inner in (value.values() if isinstance(value, dict) else value)]
    return depth


def _nested(value: Any, depth: int) -> Any:
    for number in range(depth):
        value = [value] if number % 2 else {"n": value}
    return value


def _encoded(random: Random, message: Any) -> bytes:
    text = json.dumps(message, ensure_ascii=random.random() < 0.5)
    if random.random() < 0.1 and text.startswith("{"):  # a key twice
        text = text[:1] + json.dumps(random.choice(_KEYS)) + ":" + json.dumps(random.choice(_SCALARS)) + "," + text[1:]
    if random.random() < 0.05:
        return text.encode(random.choice(_CHARSETS), "replace")
    return text.encode("utf-8", "surrogatepass")


def _damaged(random: Random, body: bytes) -> bytes:
    at = random.randrange(len(body) + 1)
    return random.choice(
        (
            body[:at],
            body[:at] + random.randbytes(random.choice((1, 4))) + body[at:],
            body + b"x",
            body * 2,
            b"",
            random.randbytes(50),
        )
    )


def _packed(random: Random, body: bytes) -> Input:
    kind = random.random()
    if kind < 0.75:
        return Input(body)
    if kind < 0.85:
        return Input(gzip.compress(body), "gzip")
    packed = random.choice(
        (body, gzip.compress(body)[: random.randrange(1, 40)], zlib.compress(body), gzip.compress(body) * 2)
    )
    return Input(packed, random.choice(_ENCODINGS))
