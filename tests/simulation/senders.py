"""mParticle's side: messages that are repeated until they are answered 200, come twice, and come late."""

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

from audience_core.errors import RetryableError
from ingest_gateway.activity import Seen
from ingest_gateway.body import parse
from ingest_gateway.registration import EPOCH_SETTING
from tests.simulation.plan import ACCOUNT, AUDIENCES, Change, Erase, Subscribe
from tests.simulation.scheduler import Crashed, Process, drive
from tests.simulation.world import GATEWAY_SKEWS_S, World

_LOST_ANSWER = 0.03


@dataclass(frozen=True)
class Told:
    """A message that was answered 200, as its sender remembers it."""

    request_id: str
    change: Change | None = None
    echoed: tuple[int | None, ...] = ()
    occurred_at: int = 0
    erase: Erase | None = None


@dataclass
class Senders:
    """Sends what the plan says and remembers what was answered."""

    world: World
    accepted: list[Told] = field(default_factory=list)
    subscribed: dict[int, list[str]] = field(default_factory=lambda: {a: [] for a in AUDIENCES})
    waiting: int = 0
    """messages that are not answered 200 yet"""
    requests: dict[Process, int] = field(default_factory=dict)
    """who sends → the gateway that has the request now"""
    _echo: dict[int, int] = field(default_factory=dict)
    _latest: dict[int, int] = field(default_factory=dict)
    _queues: dict[int, list[Subscribe]] = field(default_factory=lambda: {a: [] for a in AUDIENCES})
    _number: int = 0

    def change(self, item: Change) -> None:
        """The body is made once: what is repeated or late still tells the old epoch."""
        echoed = tuple(self._echo.get(audience) if item.echo else None for audience, _ in item.changes)
        audiences = [
            {
                "audience_id": audience,
                "action": action,
                **({} if epoch is None else {"audience_subscription_settings": {EPOCH_SETTING: str(epoch)}}),
            }
            for (audience, action), epoch in zip(item.changes, echoed, strict=True)
        ]
        emails = [{"type": "email", "encoding": "raw", "value": email} for email in item.emails]
        profiles = [{"mpid": mpid, "audiences": audiences, "user_identities": emails} for mpid in item.mpids]
        occurred_at = self._now() + item.jitter_ms
        body = self._body("audience_membership_change_request", occurred_at, user_profiles=profiles)
        told = Told(body["id"], change=item, echoed=echoed, occurred_at=occurred_at)
        self._post(body, told, delay=item.delay)
        for _ in range(item.copies):
            self._post(body, told, delay=item.delay + 150)

    def erase(self, item: Erase) -> None:
        kind, value = ("mpid", item.mpid) if item.mpid else ("email", item.email)
        identities = {kind: {"encoding": "raw", "value": value}}
        body = self._body("dsr_processing_request", self._now(), subject_identities=identities)
        self._post(body, Told(body["id"], erase=item))

    def subscribe(self, item: Subscribe) -> None:
        """One audience's messages go one after another, each with a later time."""
        queue = self._queues[item.audience]
        queue.append(item)
        if len(queue) == 1:
            self.waiting += 1
            self.world.scheduler.spawn(f"subscriptions of {item.audience}", lambda: self._subscriptions(item.audience))

    def _subscriptions(self, audience: int) -> None:
        queue = self._queues[audience]
        while queue:
            item = queue[0]
            self._latest[audience] = max(self._now(), self._latest.get(audience, 0) + 1)
            body = self._body(
                "audience_subscription_request", self._latest[audience], audience_id=audience, action=item.action
            )
            answer = self._until_accepted(body)
            self._echo[audience] = int(answer["audience_subscription_settings"][EPOCH_SETTING])
            self.subscribed[audience].append(item.action)
            if item.late_copy is not None:
                self._post(body, None, delay=item.late_copy)
            queue.pop(0)
        self.waiting -= 1

    def _post(self, body: dict[str, Any], told: Told | None, delay: int = 0) -> None:
        self.waiting += 1

        def run() -> None:
            self._until_accepted(body)
            if told is not None:
                self.accepted.append(told)
            self.waiting -= 1

        process = self.world.scheduler.spawn(f"message {self._number}", run)
        process.stalled_until = self.world.scheduler.step_number + delay

    def _until_accepted(self, body: dict[str, Any]) -> Any:
        message, random = parse(json.dumps(body).encode()), self.world.scheduler.random
        process = self.world.scheduler.running
        while True:
            number = random.randrange(len(GATEWAY_SKEWS_S))
            self.requests[process] = number
            self.world.clock.skew_s = process.skew_s = GATEWAY_SKEWS_S[number]
            answer = self._answer(number, body["type"], message)
            del self.requests[process]
            if answer is not None and not random.random() < _LOST_ANSWER:
                return answer
            self.world.scheduler.rest(10)

    def _answer(self, number: int, kind: str, message: dict[str, Any]) -> Any:
        """The body of a 200, or None when the message has to be sent again."""
        gateway = self.world.gateways[number].gateway
        try:
            answer = drive(gateway._answer(kind, message, [], Seen()))  # noqa: SLF001 - all of it but HTTP
        except (RetryableError, Crashed) as error:
            self.world.scheduler.note(f"not answered: {error or 'the gateway crashed'}")
            return None
        assert answer.status == 200, answer
        return json.loads(answer.body)

    def _body(self, kind: str, time_ms: int, **fields: Any) -> dict[str, Any]:
        self._number += 1
        account = {"account_settings": {"apiKey": ACCOUNT}}
        self.world.scheduler.note(f"mParticle makes message {self._number} of {time_ms}: {kind} {fields}")
        return {
            "type": kind,
            "id": str(uuid.UUID(int=self._number)),
            "timestamp_ms": time_ms,
            "account": account,
            **fields,
        }

    def _now(self) -> int:
        return int(self.world.clock.now_s * 1000)
