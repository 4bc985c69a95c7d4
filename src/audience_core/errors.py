"""Every error of this project.

AudienceError
├── RetryableError            the same call may succeed later: pause, then try again
│   ├── KafkaUnavailable
│   │   └── ProducerQueueFull
│   ├── RedisUnavailable
│   ├── SpoolUnavailable      neither Kafka nor the disk has room for a record now
│   └── TopicMissing          nobody created it yet, or the broker has not heard of it yet
└── PermanentError            trying again changes nothing
    ├── SettingsError
    ├── PoisonRecord          one record can't be read: dead letter, go on
    ├── PoisonLimitExceeded   too many of them: stop and say why
    ├── FencedError           the stored offset is not the one that the worker believed in
    ├── ShardRefused          the log and the stored state do not belong together
    ├── KafkaRefused          the Kafka client gave up for good
    ├── TopicMismatch         a topic exists, but not as these settings want it
    ├── NotFound
    ├── AlreadyExists
    └── LimitReached          an account has as many of something as it may have

A message says what happened, to what, and what to do. It never holds an MPID, a key or an identity.
"""


class AudienceError(Exception):
    """Root of the project's errors."""


class RetryableError(AudienceError):
    """May succeed later without any change."""


class KafkaUnavailable(RetryableError):
    """Kafka did not answer, or did not acknowledge in time."""


class ProducerQueueFull(KafkaUnavailable):
    """The producer's local queue has no room: answer 503 at once."""


class RedisUnavailable(RetryableError):
    """Redis did not answer in time, refused the connection, or is not writable now."""


class SpoolUnavailable(RetryableError):
    """The spool or its disk is full or fails."""


class TopicMissing(RetryableError):
    """A topic is not there: nobody created it yet, or the broker that was asked has not heard of it yet."""


class PermanentError(AudienceError):
    """Stays wrong until somebody changes something."""


class SettingsError(PermanentError):
    """A setting is missing or contradicts another one."""


class PoisonRecord(PermanentError):
    """A record that no reader can decode. `reason` is a code out of a fixed list."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class PoisonLimitExceeded(PermanentError):
    """So many records are poison that going on would throw a stream away."""


class FencedError(PermanentError):
    """The shard's stored offset differs from the expected one. `stored` is None when nothing is stored."""

    def __init__(self, shard: int, expected: int | None, stored: int | None) -> None:
        super().__init__(f"shard {shard}: expected stored offset {expected}, found {stored}; re-reading from there")
        self.shard = shard
        self.expected = expected
        self.stored = stored


class ShardRefused(PermanentError):
    """A shard's stored state does not fit its log, so applying it would corrupt the state."""


class KafkaRefused(PermanentError):
    """The Kafka client gave up for good, as when the brokers don't support what it is told to be."""


class TopicMismatch(PermanentError):
    """An existing topic differs from what the settings ask for."""


class NotFound(PermanentError):
    """No such account, connector, key or audience."""


class AlreadyExists(PermanentError):
    """The id is taken."""


class LimitReached(PermanentError):
    """An account has as many of something as it may have."""
