"""Every answer has the fields and types of the answers that mParticle's own SDK writes."""

import json
import uuid
from pathlib import Path
from typing import Any

from tests.pipeline.running import Stack

SDK_RESPONSES = Path(__file__).parents[1] / "sdk-responses"


def sdk_response(name: str) -> dict[str, Any]:
    response: dict[str, Any] = json.loads((SDK_RESPONSES / f"{name}.json").read_text("utf-8"))
    return response


def check_shape(answer: Any, model: Any, where: str = "answer") -> None:
    """Same JSON types; no field that the model's object does not have, none missing."""
    assert type(answer) is type(model), where
    if isinstance(model, dict) and not where.endswith("audience_subscription_settings"):
        assert set(answer) == set(model), where
        for name, value in model.items():
            check_shape(answer[name], value, f"{where}.{name}")


def check_common(answer: dict[str, Any]) -> None:
    assert len(answer["id"]) == 36
    uuid.UUID(answer["id"])
    assert isinstance(answer["timestamp_ms"], int)


def test_membership_subscription_erasure_and_event_answers_have_the_shape_of_the_sdks_own(stack: Stack) -> None:
    answers = {
        "audience_membership_change_response": stack.change("a-1", 6001, "add"),
        "audience_subscription_response": stack.subscribe(6001),
        "dsr_processing_response": stack.message("dsr_processing_request", subject_request_type="erasure"),
        "event_processing_response": stack.message("event_processing_request"),
    }
    for name, answer in answers.items():
        assert answer.headers["content-type"] == "application/json"
        check_common(answer.json())
        check_shape(answer.json(), sdk_response(name))
    settings = answers["audience_subscription_response"].json()["audience_subscription_settings"]
    assert all(isinstance(value, str) for value in settings.values())


def test_the_registration_asks_for_mpids_a_key_an_invisible_epoch_and_no_required_identity(stack: Stack) -> None:
    answer = stack.post({"type": "module_registration_request", "id": str(uuid.uuid4()), "timestamp_ms": 1}).json()
    model = sdk_response("module_registration_response")
    check_common(answer)
    assert set(answer) == set(model)
    audience, modelled = (r["audience_processing_registration"] for r in (answer, model))
    for kind in ("account_settings", "audience_subscription_settings"):
        check_shape(audience[kind][0], modelled[kind][0], kind)
    declared = {setting["id"]: setting["visible"] for setting in audience["audience_subscription_settings"]}
    returned = stack.subscribe(6002).json()["audience_subscription_settings"]
    assert {name: declared[name] for name in returned} == dict.fromkeys(returned, False)
    permissions = answer["permissions"]
    assert permissions["allow_access_mpid"] is True
    for identity in permissions["user_identities"] + permissions["device_identities"]:
        assert identity["encoding"] == "sha256"
        assert identity["required"] is False
