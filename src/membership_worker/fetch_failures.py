"""What the client says instead of giving a record."""

from confluent_kafka import KafkaError, Message

from audience_core.errors import KafkaRefused
from audience_core.observability.logging import get_logger

log = get_logger()
# their only names
_FATAL, _END, _OUT_OF_RANGE = KafkaError._FATAL, KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001


class FetchFailures:
    """Takes note of them."""

    def __init__(self) -> None:
        self.out_of_range: set[int] = set()
        """shards whose log is said not to hold the position; whoever looks into one takes it out"""

    def note(self, message: Message) -> None:
        """Note what came without a record. Raises KafkaRefused when nothing else will ever come."""
        error, number = message.error(), message.partition()
        if error is None or error.code() == _END:
            return
        if error.code() == _FATAL:  # the client has given up all its shards by then, without a word of a rebalance
            raise KafkaRefused(
                f"the Kafka client gave up for good: {error.str()}. If it names the group's protocol or type: brokers "
                "and group have to support what AUDIENCE_KAFKA_GROUP_PROTOCOL asks for. Then start again"
            )
        if error.code() == _OUT_OF_RANGE:
            self.out_of_range.add(number or 0)
        else:
            log.warning("fetch_failed", error=error.name(), shard=number)
