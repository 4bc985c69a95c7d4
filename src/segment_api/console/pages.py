"""Templates, and how numbers and times read in them."""

import hashlib
import time
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

T = TypeVar("T")
PAGE_SIZE = 50
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def number(value: int) -> str:
    """1,234,567"""
    return f"{value:,}"


def milliseconds(moment: str | int) -> int:
    """Milliseconds since the epoch of an ISO-8601 text, or of what is a number already."""
    if isinstance(moment, int):
        return moment
    return int(datetime.fromisoformat(moment).timestamp() * 1000)


def ago_text(moment: str | int, now_ms: int | None = None) -> str:
    """`3 s ago`; a script keeps it true while the page is open."""
    now = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    seconds = max(0, now - milliseconds(moment)) // 1000
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def ago(moment: str | int) -> Markup:
    """As ago_text, inside a time element."""
    at = datetime.fromtimestamp(milliseconds(moment) / 1000, UTC)
    return Markup('<time class="ago" datetime="{}" title="{}">{}</time>').format(
        at.isoformat(timespec="milliseconds"), f"{at:%d %B %Y, %H:%M:%S} UTC", ago_text(moment)
    )


def day(moment: str | int) -> Markup:
    """`24 Nov 2026, 11:30` (UTC) inside a time element."""
    at = datetime.fromtimestamp(milliseconds(moment) / 1000, UTC)
    return Markup('<time datetime="{}" title="UTC">{}</time>').format(
        at.isoformat(timespec="milliseconds"), f"{at.day} {at:%b %Y, %H:%M}"
    )


@cache
def static_file(name: str) -> bytes | None:
    """A packaged static file, or None."""
    if "/" in name or name.startswith("."):
        return None
    found = files("segment_api.console").joinpath("static", name)
    return found.read_bytes() if found.is_file() else None


@cache
def static_version(name: str) -> str:
    """A text that changes with a static file's content. Raises LookupError."""
    content = static_file(name)
    if content is None:
        raise LookupError(name)
    return hashlib.sha256(content).hexdigest()[:12]


def static_url(name: str) -> str:
    """URL of a static file; it changes with the content, so browsers may keep it."""
    return f"/console/static/{name}?v={static_version(name)}"


def paged(items: list[T], asked: str) -> tuple[list[T], int, int]:
    """(items of a page, its number, number of pages). `asked` is a page's number; what is none means the first."""
    pages = max(1, -(-len(items) // PAGE_SIZE))
    number_asked = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 7 else 1  # noqa: PLR2004
    page = min(max(number_asked, 1), pages)
    return items[(page - 1) * PAGE_SIZE : page * PAGE_SIZE], page, pages


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("segment_api.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {"number": number, "ago": ago, "day": day}
    made.globals |= {"static_url": static_url}
    return made


_TEMPLATES = _environment()


def render(template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A whole page."""
    return HTMLResponse(_TEMPLATES.get_template(template).render(values), status)
