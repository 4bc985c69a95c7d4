"""Whether a connector is heard from, in words that say what to do. Firehose messages name no connector, so all
connectors of an account share what is known of the account."""

from dataclasses import dataclass
from typing import Literal

HealthState = Literal["never", "ok", "late", "refused"]

_SET_UP = "In mParticle, set up the AB Tasty output, paste an API key of this account, and connect an audience to it."


@dataclass(frozen=True)
class Health:
    """`never` = no message yet, `late` = silent for too long, `refused` = the latest message had a revoked key."""

    state: HealthState
    text: str
    """what is known and what to do"""
    since: int | None
    """when the state began, in ms; None when that is not known"""


def health_of(
    *, last_message: int | None, last_refused: int | None, last_unknown_key: int | None, silence_ms: int, now: int
) -> Health:
    """Judge an account's silence. Times are milliseconds; None = never.

    `last_message`: accepted with an active key. `last_refused`: with a revoked one. `last_unknown_key`: with a key that
    belongs to no account, which may be meant for this one.
    """
    if last_refused is not None and last_refused > (last_message or 0):
        return Health(
            "refused",
            "mParticle uses a revoked API key, so its messages are refused and it may have paused the connection. In "
            "mParticle, paste an active API key into the output's settings, then press Resume for each paused one.",
            last_refused,
        )
    if last_message is None:
        lately = last_unknown_key is not None and now - last_unknown_key <= silence_ms
        unknown = "Messages with an unknown API key have arrived: if they are yours, the key was copied wrongly. "
        return Health("never", f"No message has arrived yet. {unknown if lately else ''}{_SET_UP}", None)
    if now - last_message > silence_ms:
        return Health(
            "late",
            f"Nothing has arrived for {_span(now - last_message)}. In mParticle, look whether an audience is faulted "
            "or paused, and press Resume for it; if none is, check that the output is still switched on.",
            last_message + silence_ms,
        )
    return Health("ok", "Messages arrive.", None)


def _span(milliseconds: int) -> str:
    hours = milliseconds // 3_600_000
    if hours >= 48:  # noqa: PLR2004 - below two days, hours say more
        return f"{hours // 24} days"
    return f"{hours} hours" if hours > 1 else f"{max(milliseconds // 60_000, 1)} minutes"
