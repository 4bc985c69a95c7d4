"""Reading without waiting for a full batch."""

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition


def fetch(consumer: Consumer, limit: int, timeout: float) -> list[Message]:
    """Wait up to `timeout` seconds for a first message, then take what else is there already, up to `limit`.

    `Consumer.consume` alone waits until it has `limit` messages or the time is over, which would delay each by that.
    """
    messages = consumer.consume(1, timeout=timeout)
    return messages + consumer.consume(limit - 1, timeout=0) if messages and limit > 1 else messages


def known_end(consumer: Consumer, topic: str, partition: int) -> int | None:
    """Offset after a partition's last record, as the latest fetch brought it; None before one has. Asks no broker: a
    queried end is not right on every one."""
    try:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
    except KafkaException:
        return None  # it was taken from us, or was never fetched
    return end if end >= 0 else None
