"""The answer that is written by hand is the one that the table's own function writes."""

import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_gateway import answers

KIND = "audience_membership_change_response"


@pytest.mark.parametrize("suspend", [True, False])
@given(request_id=st.uuids())
def test_an_answer_to_a_membership_message(request_id: uuid.UUID, *, suspend: bool) -> None:
    for text in (str(request_id), str(request_id).upper(), request_id.hex, f"{{{request_id}}}"):
        answer = answers.membership_changed(text, suspend=suspend)
        time = json.loads(answer.body)["timestamp_ms"]
        expected = json.loads(answers.response(KIND, text, suspend_subscription=suspend).body) | {"timestamp_ms": time}
        assert answer == answers.Answer(200, json.dumps(expected, ensure_ascii=False).encode())
        assert expected["id"] == str(request_id)


@given(st.one_of(st.none(), st.text(max_size=40), st.from_regex("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{11,13}\n?")))
def test_an_id_of_an_answer_is_always_a_uuid(text: str | None) -> None:
    found = json.loads(answers.membership_changed(text).body)["id"]
    assert str(uuid.UUID(found)) == found
