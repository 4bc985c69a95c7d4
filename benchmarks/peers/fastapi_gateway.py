"""FastAPI in the gateway's place, as its documentation and Confluent's advise.

The message is pydantic models in the endpoint's signature, the answer its return type; a thread serves the producer's
acknowledgements, each of which settles a future of the event loop. 200 once all in-sync replicas have the records. No
key, catalog, bound or spool.

    python -m benchmarks.peers.fastapi_gateway PORT
"""

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal
from uuid import UUID

import uvicorn
from confluent_kafka import KafkaException, Producer
from fastapi import FastAPI
from pydantic import BaseModel, Field

from audience_core.codec import Codec
from audience_core.topics import CHANGES

_ACTIONS = {"add": "ENTER", "delete": "EXIT"}


class AccountSettings(BaseModel):
    """Settings of the connection, of which the key is one."""

    api_key: Annotated[str, Field(alias="apiKey")]


class Account(BaseModel):
    """Whose message it is."""

    account_id: int = 0
    account_settings: AccountSettings


class Audience(BaseModel):
    """A profile enters or leaves it."""

    audience_id: int
    audience_name: str
    action: Literal["add", "delete"]


class Profile(BaseModel):
    """A visitor and the audiences that changed."""

    mpid: str
    audiences: list[Audience] = []


class MembershipMessage(BaseModel):
    """`audience_membership_change_request`."""

    type: Literal["audience_membership_change_request"]
    id: UUID
    timestamp_ms: int
    account: Account
    user_profiles: list[Profile] = []


class Answer(BaseModel):
    """`audience_membership_change_response`."""

    type: Literal["audience_membership_change_response"] = "audience_membership_change_response"
    id: UUID
    timestamp_ms: int
    suspend_subscription: bool = False


class Records:
    """A producer whose acknowledgements can be awaited."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        servers = os.environ["AUDIENCE_KAFKA_BOOTSTRAP_SERVERS"]
        self._producer: Any = Producer({"bootstrap.servers": servers, "acks": "all", "linger.ms": 3})
        self._stopped = False
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()

    def _poll(self) -> None:
        while not self._stopped:
            self._producer.poll(0.1)

    def send(self, key: str, value: bytes) -> "asyncio.Future[None]":
        """Queue a record; the future is done once it is acknowledged."""
        future: asyncio.Future[None] = self._loop.create_future()

        def delivered(error: Any, _message: Any) -> None:
            if error is None:
                self._loop.call_soon_threadsafe(future.set_result, None)
            else:
                self._loop.call_soon_threadsafe(future.set_exception, KafkaException(error))

        self._producer.produce(CHANGES, value, key, on_delivery=delivered)
        return future

    def close(self) -> None:
        """Wait for what is queued."""
        self._stopped = True
        self._thread.join()
        self._producer.flush(5)


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The producer lives as long as the application."""
    app.state.records = Records()
    yield
    app.state.records.close()


app = FastAPI(lifespan=lifespan)
codec = Codec()


@app.get("/")
async def ready() -> dict[str, bool]:
    """Tell that it is ready."""
    return {"ready": True}


@app.post("/firehose")
async def firehose(message: MembershipMessage) -> Answer:
    """One record a profile."""
    now, request_id = time.time_ns() // 1_000_000, str(message.id)
    sent = []
    for profile in message.user_profiles:
        changes = [
            {"audience_id": audience.audience_id, "epoch": 0, "action": _ACTIONS[audience.action]}
            for audience in profile.audiences
        ]
        record = {
            "account": "demo",
            "mpid": profile.mpid,
            "occurred_at": message.timestamp_ms,
            "received_at": now,
            "request_id": request_id,
            "identities": [],
            "changes": changes,
        }
        sent.append(app.state.records.send(f"demo:{profile.mpid}", codec.encode("MembershipChange", record)))
    await asyncio.gather(*sent)
    return Answer(id=message.id, timestamp_ms=now)


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning")
