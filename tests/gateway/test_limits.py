"""Absurd lengths and numbers: no message fails for ever, and none of them costs more than its size."""

import json
from typing import Any

import pytest
from prometheus_client import REGISTRY

from audience_core.codec import Codec
from audience_core.domain.records import DeadLetter
from audience_core.topics import DEAD_LETTERS
from ingest_gateway.firehose import MembershipMessage
from ingest_gateway.membership import Context, Reading, parts_in, read_profiles
from ingest_gateway.outgoing import MAX_ITEMS, MAX_LETTERS, Records
from ingest_gateway.registration import EPOCH_SETTING

CODEC = Codec()


def read(*profiles: Any) -> Reading:
    context = Context(
        account="demo", request_id="r", occurred_at=1, now=2, catalog={}, pepper=b"pepper-of-the-tests-of-limits"
    )
    return read_profiles(list(profiles), context, Records(CODEC, 4))


def letters(reading: Reading) -> list[DeadLetter]:
    return [CODEC.decode(record.value)[1] for record in reading.records if record.topic == DEAD_LETTERS]


def entered(reading: Reading) -> list[tuple[str, int]]:
    """(MPID, audience) of every change that goes to Kafka."""
    records = [CODEC.decode(record.value)[1] for record in reading.records if record.topic != DEAD_LETTERS]
    return [(record["mpid"], change["audience_id"]) for record in records for change in record["changes"]]


def counted(reason: str) -> float:
    return REGISTRY.get_sample_value("audience_dead_letters_total", {"reason": reason}) or 0


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


def test_the_broken_audiences_of_a_profile_are_one_dead_letter_and_the_good_ones_among_them_are_applied() -> None:
    before = counted("audience_malformed")
    good = [{"audience_id": n, "action": "add"} for n in range(3)]
    broken: list[Any] = [{"audience_id": "x", "action": "add", "apiKey": "secret"}, *[{}, 7, None] * 10_000]
    reading = read(profile(audiences=[*broken[:5], good[0], *broken[5:], *good[1:]]))
    assert entered(reading) == [("1", 0), ("1", 1), ("1", 2)]
    [letter] = letters(reading)
    assert letter["reason"] == "audience_malformed"
    assert letter["detail"] == "audience_id: int_parsing (the first of 30001 of this profile)"
    payload = json.loads(letter["payload"])
    assert payload["mpid"] == "1"
    assert len(payload["audiences"]) == MAX_ITEMS
    assert payload["audiences"][0] == {"audience_id": "x", "action": "add"}
    assert counted("audience_malformed") - before == reading.refused["audience_malformed"] == 30_001


def test_a_few_broken_audiences_are_kept_whole_and_can_be_put_back() -> None:
    broken = [{"audience_id": 7, "action": action} for action in ("one", "two", "three")]
    [letter] = letters(read(profile(audiences=broken)))
    assert json.loads(letter["payload"]) == {"mpid": "1", "audiences": broken}


def test_a_message_of_broken_profiles_makes_a_bounded_number_of_dead_letters_that_count_the_rest() -> None:
    before = counted("profile_malformed"), counted("mpid_missing")
    reading = read(*[7] * (MAX_LETTERS - 1), profile(mpid="a"), *[7] * 1000, *[{}] * 300, profile(mpid="b"))
    assert entered(reading) == [("a", 7), ("b", 7)]
    found = letters(reading)
    assert [letter["reason"] for letter in found] == ["profile_malformed"] * MAX_LETTERS + ["left_out"]
    assert json.loads(found[-1]["payload"]) == {"profile_malformed": 999, "mpid_missing": 300}
    assert reading.dead_letters == MAX_LETTERS + 999 + 300
    assert (counted("profile_malformed") - before[0], counted("mpid_missing") - before[1]) == (MAX_LETTERS + 999, 300)


def test_everything_that_is_to_be_read_makes_a_message_large() -> None:
    assert parts_in([profile(), profile(user_identities=[{}] * 3000), 7, {"audiences": 7}]) == 4 + 2 + 3000
