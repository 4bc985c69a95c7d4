"""Sends an input and looks at the answer."""

from urllib.parse import urlsplit

import httpx

from tests.fuzz.checks import api_fault, firehose_fault
from tests.fuzz.mutations import Input
from tests.fuzz.openapi import ApiInput, Operation
from tests.pipeline.running import Stack


def send_firehose(stack: Stack, given: Input) -> tuple[httpx.Response, str | None]:
    """(answer, what is wrong with it or None)."""
    headers = {"Content-Type": "application/json"} | ({"Content-Encoding": given.encoding} if given.encoding else {})
    url = f"{stack.ready['gateway_url']}/firehose"
    answer = stack.http.post(url, content=given.body, headers=headers)
    return answer, firehose_fault(answer)


def send_api(stack: Stack, operation: Operation, given: ApiInput) -> tuple[httpx.Response, str | None]:
    """As send_firehose, for the control API."""
    headers = {**stack.admin, "Content-Type": "application/json"}
    url = httpx.URL(stack.ready["api_url"])
    target = urlsplit(given.path)
    raw = target.path + (f"?{target.query}" if target.query else "")
    request = httpx.Request(given.method, url.copy_with(raw_path=raw.encode()), headers=headers, content=given.body)
    answer = stack.http.send(request)
    return answer, api_fault(operation, answer)
