"""Erasures, outages and what stands around the control API."""

import httpx
import pytest
from structlog.testing import capture_logs

from audience_core.codec import Codec
from audience_core.domain.partitioning import shard_of, visitor_key
from audience_core.topics import CHANGES
from tests.segment_api.support import ADMIN, Api, create_account

NOBODY_LISTENS = "redis://127.0.0.1:1/0"


def test_an_erasure_is_accepted_once_it_is_durable_in_the_visitors_own_partition(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        await create_account(http)
        answer = await http.delete("/v1/accounts/acme/visitors/-42", headers=ADMIN)
        assert answer.status_code == 202
        assert answer.json()["status"] == "accepted"
        (record,) = api.sender.sent
        key = visitor_key("acme", "-42")
        assert (record.topic, record.partition, record.key) == (CHANGES, shard_of(key, 8), key)
        name, erased = Codec().decode(record.value)
        assert (name, erased["mpid"], erased["request_id"]) == ("VisitorErased", "-42", answer.json()["request_id"])

    api.run(scenario)


def test_an_erasure_that_kafka_does_not_take_is_503(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        await create_account(http)
        api.sender.away = True
        answer = await http.delete("/v1/accounts/acme/visitors/-42", headers=ADMIN)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"] == "unavailable"

    api.run(scenario)


def test_an_erasure_for_an_unknown_account_or_of_no_mpid_publishes_nothing(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        await create_account(http)
        assert (await http.delete("/v1/accounts/nobody/visitors/1", headers=ADMIN)).status_code == 404
        for mpid in ("", "%00", "x" * 257):
            assert (await http.delete(f"/v1/accounts/acme/visitors/{mpid}", headers=ADMIN)).status_code == 422
        assert api.sender.sent == []

    api.run(scenario)


@pytest.mark.parametrize("path", ["/v1/accounts", "/v1/accounts/acme/audiences", "/v1/accounts/acme/visitors/1"])
def test_while_redis_is_away_the_control_api_is_503_and_not_ready_but_alive(path: str) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        answer = await http.get(path, headers=ADMIN)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.json()["missing"]) == (503, ["redis does not answer"])
        assert (await http.get("/livez")).status_code == 200

    Api(NOBODY_LISTENS).run(scenario)


def test_a_log_line_names_the_route_and_never_a_visitor_or_a_token(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        await create_account(http)
        with capture_logs() as logs:
            await http.get("/v1/accounts/acme/visitors/secret-mpid", headers=ADMIN)
            await http.get("/nowhere/secret-mpid")
        assert [(line["event"], line["route"], line["status"]) for line in logs] == [
            ("control_request", "/v1/accounts/{account}/visitors/{mpid:path}", 200),
            ("control_request", "none", 404),
        ]
        assert "secret-mpid" not in str(logs)
        assert "admin-token" not in str(logs)

    api.run(scenario)


def test_an_unexpected_fault_answers_500_without_a_traceback(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        api.redis.set("accounts", "of the wrong type")
        answer = await http.get("/v1/accounts", headers=ADMIN)
        assert (answer.status_code, answer.json()["error"]) == (500, "internal")
        assert "Traceback" not in answer.text

    api.run(scenario)


def test_what_does_not_exist_answers_json(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        for method, path, status in (("GET", "/v1/none", 404), ("PUT", "/v1/accounts", 405), ("GET", "/docs", 404)):
            answer = await http.request(method, path, headers=ADMIN)
            assert answer.status_code == status
            assert answer.json().keys() == {"error", "message"}

    api.run(scenario)


def test_the_openapi_document_declares_every_route_and_the_bearer_token(api: Api) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        document = (await http.get("/openapi.json")).json()
        assert "/v1/accounts/{account}/visitors/{mpid}" in document["paths"]
        assert "/v1/accounts/{account}/audiences" in document["paths"]
        assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
        assert (await http.get("/metrics")).status_code == 200

    api.run(scenario)
