"""The five topics: names, clean-up, keys. Each has one partition per shard."""

from dataclasses import dataclass, field

CHANGES = "mparticle.membership-changes.v1"
SUBSCRIPTIONS = "mparticle.audience-subscriptions.v1"
COUNTS = "audience.counts.v1"
DEAD_LETTERS = "mparticle.dead-letters.v1"
ERASURES = "audience.erasures.v1"

_DAY_MS = 86_400_000


@dataclass(frozen=True)
class TopicSpec:
    """A topic as `topics create` makes it and as every service expects it."""

    name: str
    config: dict[str, str] = field(default_factory=dict)


TOPICS = (
    # mParticle's own term for pseudonymous ids, and what a rebuild from an empty Redis can reach back to
    TopicSpec(CHANGES, {"cleanup.policy": "delete", "retention.ms": str(21 * _DAY_MS)}),
    TopicSpec(SUBSCRIPTIONS, {"cleanup.policy": "compact"}),
    TopicSpec(COUNTS, {"cleanup.policy": "compact"}),
    TopicSpec(DEAD_LETTERS, {"cleanup.policy": "delete", "retention.ms": str(21 * _DAY_MS)}),
    # an audit trail: never compacted, and kept for longer than the year after which one is asked about it
    TopicSpec(ERASURES, {"cleanup.policy": "delete", "retention.ms": str(400 * _DAY_MS)}),
)
