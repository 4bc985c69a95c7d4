"""`audience-stream simulate` without servers: what it does when the gateway turns against it."""

import asyncio
import json

import httpx
import pytest
from rich.progress import Progress

from audience_core.errors import PermanentError
from audience_stream.mparticle import Load
from audience_stream.simulate import SENDERS, Simulation

MESSAGES = 4 * SENDERS
OPTIONS = {"api_key": "key", "gateway_url": "http://gateway.example", "rate": 0.0, "tries": 1}


def sent_to(status: int) -> int:
    """Send a plan of single changes to a gateway that answers those with `status`, and all else with 200."""

    def answer(request: httpx.Request) -> httpx.Response:
        is_change = json.loads(request.content).get("user_profiles") is not None
        return httpx.Response(status if is_change else 200, json={})

    async def send() -> int:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            load = Load(1, 1, MESSAGES - 1, 1, 0, 0, 1)
            with Progress(disable=True) as progress:
                return await asyncio.wait_for(Simulation(client, OPTIONS, load).send(progress), 10)

    return asyncio.run(send())


@pytest.mark.timeout(30)
def test_all_messages_are_sent_to_a_gateway_that_takes_them() -> None:
    assert sent_to(200) == MESSAGES


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("status", "reason"),
    [(503, r"no message in 1 tries \(last status 503\)"), (400, "answered 400, which mParticle never sends again")],
)
def test_a_run_ends_when_its_senders_give_up_though_messages_are_left(status: int, reason: str) -> None:
    with pytest.raises(PermanentError, match=reason):
        sent_to(status)
