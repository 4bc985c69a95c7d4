"""What a running gateway does with its settings: quota, sender's token, grace of a rotated key."""

import json
import time
import uuid
from collections.abc import Iterator

import pytest

from tests.pipeline.running import Stack, eventually
from tests.pipeline.starting import started

TOKEN = "token-of-mparticle"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with started(
        tmp_path_factory.mktemp("gateway"),
        AUDIENCE_QUOTA_CHANGES_PER_SECOND="50",
        AUDIENCE_QUOTA_BURST="100",
        AUDIENCE_FIREHOSE_TOKEN=TOKEN,
        AUDIENCE_KEY_GRACE="3s",
    ) as running:
        yield running


def test_an_account_over_its_quota_is_429_with_a_time_after_which_it_is_served_and_others_are_served_meanwhile(
    stack: Stack,
) -> None:
    greedy, other = stack.new_account("greedy"), stack.new_account("modest")
    profiles = [{"mpid": str(n), "audiences": [{"audience_id": 1, "action": "add"}]} for n in range(150)]
    assert stack.message("audience_membership_change_request", greedy, user_profiles=profiles).status_code == 200
    refused = stack.change("q-1", 1, "add", greedy)
    assert refused.status_code == 429
    assert refused.json()["error"] == "over_quota"
    assert stack.change("q-1", 1, "add", other).status_code == 200
    # a check of mParticle's has no changes, so it is answered
    assert stack.message("audience_membership_change_request", greedy).status_code == 200
    time.sleep(int(refused.headers["retry-after"]))
    assert stack.change("q-1", 1, "add", greedy).status_code == 200
    metrics = stack.http.get(f"{stack.ready['gateway_url']}/metrics").text
    assert "audience_gateway_throttled_requests_total 1.0" in metrics
    assert "greedy" not in metrics


@pytest.mark.parametrize(
    ("authorization", "is_trusted"),
    [(f"Token {TOKEN}", True), (f"Bearer {TOKEN}", False), ("Token wrong", False), (TOKEN, False), ("Token é", False)],
)
def test_an_erasure_without_an_account_is_applied_to_all_only_with_mparticles_token(
    stack: Stack, authorization: str, *, is_trusted: bool
) -> None:
    mpid, request_id = str(uuid.uuid4().int % 2**63), str(uuid.uuid4())
    assert stack.change(mpid, 9001, "add").status_code == 200
    body = {
        "type": "dsr_processing_request",
        "id": str(uuid.uuid4()),
        "subject_request_id": request_id,
        "extensions": {"opendsr.mparticle.com": {"subject_identities": {"mpid": {"value": mpid}}}},
    }
    content = json.dumps(body).encode()
    url = f"{stack.ready['gateway_url']}/firehose"
    answer = stack.http.post(url, content=content, headers=[(b"authorization", authorization.encode())])
    assert answer.status_code == 200
    found = stack.api("GET", f"/v1/accounts/demo/erasures/{request_id}").status_code
    assert found == (200 if is_trusted else 404)
    if is_trusted:
        eventually(lambda: stack.segments(mpid), 2, {})
        eventually(lambda: stack.api("GET", f"/v1/accounts/demo/erasures/{request_id}").json()["visitors"], 2, 1)


def test_both_keys_work_while_a_rotation_s_grace_lasts_and_then_the_old_one_is_revoked(stack: Stack) -> None:
    old = stack.new_account("rotating")
    [listed] = stack.api("GET", "/v1/accounts/rotating/api-keys").json()["api_keys"]
    answer = stack.api("POST", f"/v1/accounts/rotating/api-keys/{listed['id']}/rotate")
    assert answer.status_code == 201
    new = answer.json()["secret"]
    for key in (old, new):
        assert stack.change("r-1", 1, "add", key).json()["suspend_subscription"] is False
    eventually(lambda: stack.change("r-1", 1, "add", old).json()["suspend_subscription"], 6)
    assert stack.change("r-1", 1, "add", new).json()["suspend_subscription"] is False
    assert stack.subscribe(1, key=old).status_code == 401
    by_id = {key["id"]: key for key in stack.api("GET", "/v1/accounts/rotating/api-keys").json()["api_keys"]}
    assert by_id[listed["id"]]["status"] == "revoked"
    assert by_id[answer.json()["id"]]["status"] == "active"
