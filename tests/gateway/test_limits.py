"""Texts of absurd length do not fail a message for ever."""

from typing import Any

import pytest

from audience_core.codec import Codec
from ingest_gateway.firehose import MembershipMessage
from ingest_gateway.membership import Context, Reading, read_profiles
from ingest_gateway.outgoing import Records
from ingest_gateway.registration import EPOCH_SETTING

CODEC = Codec()


def read(*profiles: Any) -> Reading:
    context = Context(
        account="demo", request_id="r", occurred_at=1, now=2, catalog={}, pepper=b"pepper-of-the-tests-of-limits"
    )
    return read_profiles(list(profiles), context, Records(CODEC, 4))


def profile(**fields: Any) -> dict[str, Any]:
    return {"mpid": "1", "audiences": [{"audience_id": 7, "action": "add"}], **fields}


@pytest.mark.parametrize("digits", [11, 400, 5000])
def test_a_row_of_digits_is_no_epoch(digits: int) -> None:
    echo = {"audience_subscription_settings": {EPOCH_SETTING: "9" * digits}}
    reading = read(profile(audiences=[{"audience_id": 7, "action": "add", **echo}]))
    _, record = CODEC.decode(reading.records[0].value)
    assert [change["epoch"] for change in record["changes"]] == [0]


def test_an_id_of_a_request_is_cut() -> None:
    assert len(MembershipMessage.model_validate({"id": "x" * 10_000}).id or "") == 256
