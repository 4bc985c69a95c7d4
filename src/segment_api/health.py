"""Whether an account's connectors are heard from, as the API and the console show it."""

import time
from datetime import timedelta
from typing import Literal

from pydantic import BaseModel, Field

from audience_core.domain.members import iso_time
from audience_core.redis.activity import ActivityReader


class ConnectorHealth(BaseModel):
    """Whether messages arrive. All connectors of an account share it, since a message names none."""

    state: Literal["never", "ok", "late", "refused"] = Field(
        description="never = no message yet; late = silent for longer than AUDIENCE_SILENCE_AFTER; refused = the "
        "latest message came with a revoked API key"
    )
    text: str = Field(description="what is known and what to do")
    since: str | None = Field(description="ISO-8601: when the account became late or was refused")
    last_message_at: str | None = Field(description="ISO-8601: when a message was last accepted")


class HealthReader:
    """Reads health. Raises RedisUnavailable."""

    def __init__(self, activity: ActivityReader, silence_after: timedelta) -> None:
        self._activity = activity
        self._silence_ms = int(silence_after.total_seconds() * 1000)

    async def of(self, account: str) -> ConnectorHealth:
        """Health of an account's connectors."""
        activity = await self._activity.summary(account)
        health = activity.health(self._silence_ms, time.time_ns() // 1_000_000)
        return ConnectorHealth(
            state=health.state,
            text=health.text,
            since=None if health.since is None else iso_time(health.since),
            last_message_at=None if activity.last_message is None else iso_time(activity.last_message),
        )
