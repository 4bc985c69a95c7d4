"""A running system, and how the tests speak to it."""

import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from prometheus_client.parser import text_string_to_metric_families


class Stack:
    """A running system, spoken to over HTTP as mParticle, the SDKs and an administrator do."""

    def __init__(self, ready: dict[str, Any], process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.ready = ready
        self.process = process
        self.log = log
        self.http = httpx.Client(trust_env=False, timeout=10)
        self.admin = {"Authorization": f"Bearer {ready['admin_token']}"}

    def post(self, body: bytes | dict[str, Any], **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        for _ in range(20):  # as mParticle does: 503 means send it again
            answer = self.http.post(f"{self.ready['gateway_url']}/firehose", content=content, headers=given)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            assert answer.headers["retry-after"]
            time.sleep(0.1)
        return answer

    def message(self, kind: str, key: str | None = None, **fields: Any) -> httpx.Response:
        body = {
            "type": kind,
            "id": str(uuid.uuid4()),
            "timestamp_ms": time.time_ns() // 1_000_000,
            "account": {"account_id": 1, "account_settings": {"apiKey": key or self.ready["api_key"]}},
            **fields,
        }
        return self.post(body)

    def change(
        self,
        mpid: str,
        audience_id: int,
        action: str,
        key: str | None = None,
        *,
        echo: dict[str, str] | None = None,
        **fields: Any,
    ) -> httpx.Response:
        """One profile's change; `echo`: the settings that the subscription's answer returned."""
        item: dict[str, Any] = {"audience_id": audience_id, "audience_name": "A", "action": action}
        if echo is not None:
            item["audience_subscription_settings"] = echo
        profiles = [{"mpid": mpid, "audiences": [item]}]
        return self.message("audience_membership_change_request", key, user_profiles=profiles, **fields)

    def subscribe(self, audience_id: int, action: str = "add", key: str | None = None, **fields: Any) -> httpx.Response:
        named = {"audience_name": f"Audience {audience_id}", **fields}
        return self.message("audience_subscription_request", key, audience_id=audience_id, action=action, **named)

    def segments(self, mpid: str, account: str | None = None) -> dict[str, str]:
        """segment → value"""
        answer = self.segments_answer(mpid, account)
        assert answer.status_code == 200, answer.text
        return {row["segment"]: row["value"] for row in answer.json()}

    def segments_answer(self, mpid: str, account: str | None = None) -> httpx.Response:
        account = account or self.ready["account"]
        return self.http.get(f"{self.ready['api_url']}/accounts/{account}/segments/{quote(mpid, safe='')}")

    def listing(self, account: str | None = None, **params: str) -> dict[int, int]:
        """audience id → count"""
        path = f"/v1/accounts/{account or self.ready['account']}/audiences"
        answer = self.http.get(f"{self.ready['api_url']}{path}", params={"limit": "500", **params}, headers=self.admin)
        assert answer.status_code == 200, answer.text
        return {audience["audience_id"]: audience["count"] for audience in answer.json()["audiences"]}

    def api(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.http.request(method, f"{self.ready['api_url']}{path}", headers=self.admin, **options)

    def new_account(self, account: str) -> str:
        """Create an account and return an API key of it."""
        assert self.api("POST", "/v1/accounts", json={"id": account, "name": account}).status_code == 201
        answer = self.api("POST", f"/v1/accounts/{account}/api-keys")
        assert answer.status_code == 201, answer.text
        return str(answer.json()["secret"])

    def command(self, *arguments: str, timeout: float = 100) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "audience_stream", *arguments],
            env={**os.environ, **self.ready["environment"]},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def metric(self, service: str, name: str, **labels: str) -> float:
        """Sum of a metric's series that carry the labels."""
        families = text_string_to_metric_families(self.http.get(self.ready["metrics_urls"][service]).text)
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    @contextlib.contextmanager
    def another_worker(self) -> Iterator["subprocess.Popen[bytes]"]:
        """Run one more worker beside the stack, in the same group; SIGTERM at the end."""
        process = subprocess.Popen(
            [sys.executable, "-m", "audience_stream", "worker"],
            env={**os.environ, **self.ready["environment"]},
            stderr=subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)

    def service_pid(self, service: str) -> int:
        """Process id of a service: a child of `up` whose command line ends in its name."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()  # the supervisor's thread has children of its own
        for pid in [pid for task in tasks for pid in (task / "children").read_text().split()]:
            with contextlib.suppress(FileNotFoundError):  # it ended since it was listed
                if Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")[-1] == service.encode():
                    return int(pid)
        raise LookupError(service)


def eventually(check: Callable[[], Any], within: float, wanted: Any = True) -> None:
    """Wait until `check()` is `wanted`; fail with the last value seen."""
    until = time.monotonic() + within
    while (seen := check()) != wanted:
        assert time.monotonic() < until, f"after {within} s still {seen!r} instead of {wanted!r}"
        time.sleep(0.01)
