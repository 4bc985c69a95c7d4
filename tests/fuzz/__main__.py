"""The command: `python -m tests.fuzz --seconds 60`."""

import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Annotated

import typer

from tests.fuzz.checks import signature
from tests.fuzz.corpus import save
from tests.fuzz.mutations import API_KEY, Input, mutate, seeds
from tests.fuzz.openapi import operations
from tests.fuzz.requests import send_api, send_firehose
from tests.pipeline.running import Stack, eventually
from tests.pipeline.starting import started

_SERVICES = ("gateway", "worker", "indexer", "api")
_SETTINGS = {"AUDIENCE_LOG_LEVEL": "error"}
_MOST_FINDINGS = 10


def main(
    seconds: Annotated[float, typer.Option(min=1, help="for how long to send")] = 60,
    seed: Annotated[int, typer.Option(help="0 = another one each time")] = 0,
    keep: Annotated[bool, typer.Option(help="add inputs that reach a new kind of answer to tests/fuzz/corpus")] = False,
) -> None:
    """Send broken requests to a running system; exit 1 on a crash, an unintended 5xx or an answer of unknown shape.

    Example: python -m tests.fuzz --seconds 60
    """
    seed = seed or time.time_ns() % 2**32
    typer.echo(f"seed {seed}")
    with tempfile.TemporaryDirectory() as folder, started(Path(folder), **_SETTINGS) as stack:
        pids = {service: stack.service_pid(service) for service in _SERVICES}
        fuzzing = _Fuzzing(stack, Random(seed), keep=keep)
        until = time.monotonic() + seconds
        while time.monotonic() < until and len(fuzzing.findings) < _MOST_FINDINGS:
            fuzzing.firehose()
            fuzzing.api()
        findings = fuzzing.findings + _aftermath(stack, pids)
        typer.echo(f"{sum(fuzzing.answers.values())} requests, {len(fuzzing.signatures)} kinds of answers")
        typer.echo(", ".join(f"{status}: {count}" for status, count in sorted(fuzzing.answers.items())))
        for finding in findings:
            typer.echo(f"FOUND {finding}")
        if findings:
            typer.echo(stack.log.read_text("utf-8", "replace")[-4000:])
    typer.echo(f"found {len(findings)}")
    raise typer.Exit(1 if findings else 0)


class _Fuzzing:
    def __init__(self, stack: Stack, random: Random, *, keep: bool) -> None:
        self._stack = stack
        self._random = random
        self._keep = keep
        self._messages = seeds(API_KEY)
        document = stack.http.get(f"{stack.ready['api_url']}/openapi.json").json()
        self._operations = operations(document)
        self._known = [stack.ready["account"], stack.ready["connector_id"], "7", "456", "5991422180106081928"]
        self.answers: Counter[int] = Counter()
        self.signatures: set[str] = set()
        self.findings: list[str] = []

    def firehose(self) -> None:
        """Send one broken message."""
        kept = mutate(self._random, self._messages)
        body = kept.body.replace(API_KEY.encode(), self._stack.ready["api_key"].encode())
        answer, fault = send_firehose(self._stack, Input(body, kept.encoding))
        seen = f"firehose {signature(answer, with_message=True)}"
        self._note(seen, fault)
        self.answers[answer.status_code] += 1
        if self._is_new(seen) or fault:
            save(kept, "", seen)

    def api(self) -> None:
        """Send one broken request to the control API."""
        operation = self._random.choice(self._operations)
        given = operation.draw(self._random, self._known)
        answer, fault = send_api(self._stack, operation, given)
        seen = f"{operation.method} {operation.path} {signature(answer, with_message=False)}"
        self._note(f"{seen} {given}" if fault else seen, fault)
        self.answers[answer.status_code] += 1
        if self._is_new(seen) or fault:
            save(given, operation.path, seen)
        if answer.is_success and answer.content and isinstance(answer.json(), dict):
            self._known += [value for name, value in answer.json().items() if name == "id" and isinstance(value, str)]
            self._known = self._known[:5] + self._known[-40:]

    def _note(self, seen: str, fault: str | None) -> None:
        if fault is not None:
            self.findings.append(f"{fault}: {seen[:500]}")

    def _is_new(self, seen: str) -> bool:
        new = seen not in self.signatures
        self.signatures.add(seen)
        return new and self._keep


def _aftermath(stack: Stack, pids: dict[str, int]) -> list[str]:
    """Everybody must have survived, be ready, and still do their work."""
    found = [f"the {service} died" for service, pid in pids.items() if stack.service_pid(service) != pid]
    urls = (stack.ready["gateway_url"], stack.ready["api_url"])
    found += [f"{url} is not ready" for url in urls if not stack.http.get(f"{url}/readyz").is_success]
    key = stack.new_account("after-the-fuzz")
    stack.subscribe(4242, key=key)
    stack.change("survivor", 4242, "add", key=key)
    try:
        eventually(lambda: stack.segments("survivor", "after-the-fuzz"), 10, {"4242": "member"})
    except AssertionError as error:
        found.append(f"a change does not arrive any more: {error}")
    return found


if __name__ == "__main__":
    typer.run(main)
