"""Reading without waiting for a full batch."""

from confluent_kafka import Consumer, Message


def fetch(consumer: Consumer, limit: int, timeout: float) -> list[Message]:
    """Wait up to `timeout` seconds for a first message, then take what else is there already, up to `limit`.

    `Consumer.consume` alone waits until it has `limit` messages or the time is over, which would delay each by that.
    """
    messages = consumer.consume(1, timeout=timeout)
    return messages + consumer.consume(limit - 1, timeout=0) if messages and limit > 1 else messages
