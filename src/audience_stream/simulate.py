"""`audience-stream simulate`: plays mParticle against a gateway, then checks every segment and count."""

import asyncio
import json
import random
import time
import uuid
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.progress import Progress

from audience_core.errors import AudienceError, PermanentError
from audience_stream.mparticle import Load, Plan, Planned

RETRIED = {408, 429, 500, 502, 503, 504}
GET_TRIES = 12
SENDERS = 16
_AGO_MS = 3_600_000


class Simulation:
    """One run. Speaks HTTP only, as mParticle and AB Tasty's SDKs do."""

    def __init__(self, client: httpx.AsyncClient, options: dict[str, Any], load: Load) -> None:
        self._client = client
        self._options = options
        self._account = {"account_id": 1, "account_settings": {"apiKey": options["api_key"]}}
        self._settings: dict[int, dict[str, str]] = {}
        self.plan = Plan(load, time.time_ns() // 1_000_000 - _AGO_MS)
        self.retries = 0

    async def send(self, progress: Progress) -> int:
        """Register, subscribe every audience anew, send all messages; return how many were sent."""
        await self._post({"type": "module_registration_request"}, self.plan.base_ms)
        for audience_id in self.plan.audience_ids:
            for action in ("remove", "add"):
                await self._subscribe(audience_id, action)
        messages = self.plan.messages()
        task = progress.add_task("sending", total=len(messages))
        queue: asyncio.Queue[Planned | None] = asyncio.Queue(maxsize=SENDERS)
        started, rate = time.monotonic(), self._options["rate"]
        try:
            # a group: with senders that gave up, nobody would take what is put into the queue
            async with asyncio.TaskGroup() as senders:
                for _ in range(SENDERS):
                    senders.create_task(self._sender(queue, progress, task))
                for n, message in enumerate(messages):
                    if rate:
                        await asyncio.sleep(max(0.0, started + n / rate - time.monotonic()))
                    await queue.put(message)
                for _ in range(SENDERS):
                    await queue.put(None)
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return len(messages)

    async def _sender(self, queue: "asyncio.Queue[Planned | None]", progress: Progress, task: Any) -> None:
        sent = 0
        while (message := await queue.get()) is not None:
            await self._send_body(message.body(self._account, self._settings))
            sent += 1
            if sent % 100 == 0:  # mParticle verifies its outputs now and then
                await self._post({"type": "audience_membership_change_request"}, message.occurred_at)
            progress.advance(task)

    async def _subscribe(self, audience_id: int, action: str) -> None:
        # the remove lies a millisecond before the add: whoever ran before leaves nothing behind
        occurred_at = self.plan.base_ms - (2 if action == "remove" else 1)
        fields = {"audience_id": audience_id, "audience_name": f"Simulated {audience_id}", "action": action}
        answer = await self._post({"type": "audience_subscription_request", **fields}, occurred_at)
        self._settings[audience_id] = answer.get("audience_subscription_settings", {})

    async def _post(self, fields: dict[str, Any], occurred_at: int) -> dict[str, Any]:
        common = {"id": str(uuid.uuid4()), "timestamp_ms": occurred_at, "firehose_version": "3.2.0"}
        return await self._send_body({**common, "account": self._account, **fields})

    async def _send_body(self, body: dict[str, Any]) -> dict[str, Any]:
        """Send with mParticle's rules: some statuses are tried again with exponential back-off, others never."""
        tries = self._options["tries"]
        for attempt in range(tries):
            try:
                answer = await self._client.post(f"{self._options['gateway_url']}/firehose", json=body)
            except httpx.TransportError:
                status = 0
            else:
                status = answer.status_code
                if status == httpx.codes.OK:
                    return dict(answer.json())
            if status and status not in RETRIED:
                raise PermanentError(f"the gateway answered {status}, which mParticle never sends again: {answer.text}")
            self.retries += 1
            await asyncio.sleep(min(5.0, 0.1 * 2**attempt) * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
        raise PermanentError(f"the gateway took no message in {tries} tries (last status {status or 'no answer'})")

    async def count_differences(self, deadline_s: float) -> int:
        """Sum of differences between the listing's counts and the model; waits for them to settle."""
        wanted = dict.fromkeys(self.plan.audience_ids, 0)
        for audiences in self.plan.expected().values():
            for audience_id in audiences:
                wanted[audience_id] += 1
        until = time.monotonic() + deadline_s
        while True:
            found = await self._counts()
            differences = sum(abs(found.get(a, 0) - count) for a, count in wanted.items())
            if differences == 0 or time.monotonic() > until:
                return differences
            await asyncio.sleep(0.2)

    async def _counts(self) -> dict[int, int]:
        url = f"{self._options['api_url']}/v1/accounts/{self._options['account']}/audiences"
        headers = {"Authorization": f"Bearer {self._options['admin_token']}"}
        counts: dict[int, int] = {}
        cursor: str | None = None
        while True:
            params = {"limit": "500"} | ({"cursor": cursor} if cursor else {})
            answer = await self._get(url, headers=headers, params=params)
            if answer is None:
                return counts
            page = answer.json()
            counts |= {a["audience_id"]: a["count"] for a in page["audiences"]}
            cursor = page["next_cursor"]
            if not cursor:
                return counts

    async def segment_differences(self, progress: Progress) -> int:
        """Memberships that the segments answers show and the model does not, or the other way round."""
        expected = self.plan.expected()
        task = progress.add_task("checking segments", total=len(expected))
        waiting = iter(expected.items())
        checkers = [asyncio.create_task(self._checker(waiting, progress, task)) for _ in range(SENDERS)]
        return sum(await asyncio.gather(*checkers))

    async def _checker(self, waiting: Any, progress: Progress, task: Any) -> int:
        differences = 0
        for mpid, audiences in waiting:
            url = f"{self._options['api_url']}/accounts/{self._options['account']}/segments/{mpid}"
            answer = await self._get(url)
            rows = answer.json() if answer is not None else []
            shown = {int(row["segment"]) for row in rows if row["value"] == "member"}
            differences += len((shown ^ audiences) & (set(self.plan.audience_ids)))
            progress.advance(task)
        return differences

    async def _get(self, url: str, **options: Any) -> httpx.Response | None:
        for _ in range(GET_TRIES):
            try:
                answer = await self._client.get(url, **options)
            except httpx.TransportError:
                await asyncio.sleep(0.5)
                continue
            if answer.status_code == httpx.codes.OK:
                return answer
            if answer.status_code not in RETRIED:
                raise PermanentError(f"the segment API answered {answer.status_code} to {url.rsplit('/', 1)[0]}/…")
            await asyncio.sleep(0.5)
        return None


async def _run(options: dict[str, Any], load: Load, console: Console) -> dict[str, Any]:
    limits = httpx.Limits(max_connections=SENDERS)
    async with httpx.AsyncClient(trust_env=False, timeout=10, limits=limits) as client:
        simulation = Simulation(client, options, load)
        with Progress(console=console, transient=True) as progress:
            started = time.monotonic()
            sent = await simulation.send(progress)
            seconds = time.monotonic() - started
            counts = await simulation.count_differences(options["settle"])
            segments = await simulation.segment_differences(progress)
    return {
        "seed": load.seed,
        "messages": sent,
        "seconds": round(seconds, 2),
        "retries": simulation.retries,
        "count_differences": counts,
        "segment_differences": segments,
    }


def simulate(  # noqa: PLR0913 - one parameter an option
    *,
    api_key: Annotated[str, typer.Option(envvar="AUDIENCE_API_KEY", help="API key of the account")],
    admin_token: Annotated[str, typer.Option(envvar="AUDIENCE_ADMIN_TOKEN", help="admin token of the API")],
    account: Annotated[str, typer.Option(help="account of the API key")] = "demo",
    gateway_url: Annotated[str, typer.Option(help="where mParticle would post to")] = "http://127.0.0.1:8080",
    api_url: Annotated[str, typer.Option(help="where the SDKs would ask")] = "http://127.0.0.1:8081",
    profiles: Annotated[int, typer.Option(min=1, help="profiles of the back-fill")] = 1000,
    audiences: Annotated[int, typer.Option(min=1, help="audiences, each with every profile at first")] = 3,
    changes: Annotated[int, typer.Option(min=0, help="single enters and exits after the back-fill")] = 1000,
    per_message: Annotated[int, typer.Option(min=1, help="profiles of a back-fill message")] = 100,
    duplicates: Annotated[float, typer.Option(min=0, max=1, help="share of messages sent twice")] = 0.2,
    disorder: Annotated[float, typer.Option(min=0, max=1, help="share of messages that arrive late")] = 0.2,
    rate: Annotated[float, typer.Option(min=0, help="messages a second; 0 = as fast as they are answered")] = 0,
    tries: Annotated[int, typer.Option(min=1, help="how often a message is sent before the run gives up")] = 12,
    seed: Annotated[int, typer.Option(help="the same seed sends the same messages")] = 1,
    settle: Annotated[float, typer.Option(help="seconds that the counts may take to settle")] = 60,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Play mParticle against a gateway, then compare every segment and count with a model; exit 1 on a difference.

    Example: audience-stream simulate --profiles 50000 --audiences 3 --api-key KEY --admin-token TOKEN
    """
    options = {
        "api_key": api_key,
        "admin_token": admin_token,
        "account": account,
        "gateway_url": gateway_url.rstrip("/"),
        "api_url": api_url.rstrip("/"),
        "rate": rate,
        "tries": tries,
        "settle": settle,
    }
    load = Load(profiles, audiences, changes, per_message, duplicates, disorder, seed)
    console = Console(stderr=True)
    try:
        result = asyncio.run(_run(options, load, console))
    except AudienceError as error:
        console.print(f"simulate: {error}", markup=False)
        raise typer.Exit(1) from None
    differences = result["count_differences"] + result["segment_differences"]
    if as_json:
        typer.echo(json.dumps({**result, "differences": differences}))
    else:
        for name, value in result.items():
            typer.echo(f"{name.replace('_', ' ')}: {value}")
        typer.echo(f"differences {differences}")
    raise typer.Exit(1 if differences else 0)
