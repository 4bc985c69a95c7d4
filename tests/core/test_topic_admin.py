"""What is asked about topics, on the client's own mock cluster, which creates a topic for whoever asks for it."""

import pytest

from audience_core.errors import KafkaUnavailable
from audience_core.kafka.admin import TopicAdmin
from audience_core.settings import CoreSettings


def test_to_ask_about_a_topic_that_is_gone_does_not_create_it() -> None:
    admin = TopicAdmin(CoreSettings(kafka_options={"test.mock.num.brokers": 1, "log_level": 0}))
    with pytest.raises(KafkaUnavailable, match="does not tell the offsets of gone"):
        admin.starts("gone", [0])
    assert list(admin._client.list_topics(timeout=5).topics) == []  # noqa: SLF001 - the cluster is this client's own
