"""What mParticle would send: a plan of messages out of a seed, and the memberships that must come of it."""

import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Change = tuple[str, int, bool]
"""(MPID, audience id, whether it is an enter)"""


@dataclass(frozen=True)
class Load:
    """Size and shape of a simulation. Shares are between 0 and 1."""

    profiles: int
    audiences: int
    changes: int
    per_message: int
    duplicates: float
    disorder: float
    seed: int
    first_audience: int = 100_001


@dataclass(frozen=True)
class Planned:
    """One message: when it happened (ms since the epoch) and what it says."""

    occurred_at: int
    changes: tuple[Change, ...]

    def body(self, account: dict[str, Any], settings: dict[int, dict[str, str]]) -> dict[str, Any]:
        """The JSON that mParticle sends. `settings`: what the subscriptions' answers returned, echoed as it would."""
        profiles: dict[str, list[dict[str, Any]]] = {}
        for mpid, audience_id, enters in self.changes:
            item = {
                "audience_id": audience_id,
                "audience_name": f"Simulated {audience_id}",
                "audience_subscription_settings": settings[audience_id],
                "action": "add" if enters else "delete",
            }
            profiles.setdefault(mpid, []).append(item)
        return {
            "type": "audience_membership_change_request",
            "id": str(uuid.UUID(int=random.getrandbits(128), version=4)),
            "timestamp_ms": self.occurred_at,
            "firehose_version": "3.2.0",
            "account": account,
            "user_profiles": [{"audiences": audiences, "mpid": mpid} for mpid, audiences in profiles.items()],
        }


@dataclass
class Plan:
    """Messages in the order of sending, and the memberships at the end."""

    load: Load
    base_ms: int
    _newest: dict[tuple[str, int], tuple[int, bool]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = random.Random(self.load.seed)  # noqa: S311 - replayable on purpose
        self.mpids = [str(self._random.randint(-(2**63), 2**63 - 1)) for _ in range(self.load.profiles)]
        self.audience_ids = [self.load.first_audience + n for n in range(self.load.audiences)]

    def messages(self) -> list[Planned]:
        """The whole run: a back-fill of every profile into every audience, then single enters and exits, with a share
        of duplicates and of messages that arrive late. Every message has its own millisecond, so one newest exists."""
        sent = list(self._in_order())
        for n in range(len(sent)):
            if self._random.random() < self.load.disorder:
                other = min(len(sent) - 1, n + self._random.randint(1, 50))
                sent[n], sent[other] = sent[other], sent[n]
        for _ in range(int(len(sent) * self.load.duplicates)):
            sent.insert(self._random.randint(0, len(sent)), self._random.choice(sent))
        return sent

    def expected(self) -> dict[str, set[int]]:
        """MPID → audiences that it is in, after messages() was called."""
        members: dict[str, set[int]] = {mpid: set() for mpid in self.mpids}
        for (mpid, audience_id), (_, enters) in self._newest.items():
            if enters:
                members[mpid].add(audience_id)
        return members

    def _in_order(self) -> Iterator[Planned]:
        clock = self.base_ms
        for first in range(0, len(self.mpids), self.load.per_message):
            group = self.mpids[first : first + self.load.per_message]
            changes = tuple((mpid, audience_id, True) for mpid in group for audience_id in self.audience_ids)
            clock += 1
            yield self._note(Planned(clock, changes))
        for _ in range(self.load.changes):
            clock += 1
            mpid, audience_id = self._random.choice(self.mpids), self._random.choice(self.audience_ids)
            yield self._note(Planned(clock, ((mpid, audience_id, self._random.random() < 0.5),)))  # noqa: PLR2004

    def _note(self, message: Planned) -> Planned:
        for mpid, audience_id, enters in message.changes:
            self._newest[mpid, audience_id] = (message.occurred_at, enters)
        return message
