"""Every input that the fuzz has kept gets an answer of a known shape again, and harms nobody."""

from pathlib import Path

import pytest

from tests.fuzz.corpus import FOLDER, load
from tests.fuzz.openapi import ApiInput, Operation, operation_of, operations
from tests.fuzz.requests import send_api, send_firehose
from tests.pipeline.running import Stack

ACCOUNT = "fuzz-corpus"
"""of its own: some inputs erase visitors, whom other tests of this system need"""
CORPUS = sorted(FOLDER.glob("*.json"))


@pytest.fixture(scope="module")
def declared(stack: Stack) -> list[Operation]:
    return operations(stack.http.get(f"{stack.ready['api_url']}/openapi.json").json())


@pytest.fixture(scope="module")
def api_key(stack: Stack) -> str:
    return stack.new_account(ACCOUNT)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_a_kept_input_gets_an_answer_of_a_known_shape(
    stack: Stack, declared: list[Operation], api_key: str, path: Path
) -> None:
    given, template = load(path, ACCOUNT, api_key)
    if isinstance(given, ApiInput):
        answer, fault = send_api(stack, operation_of(declared, given.method, template), given)
    else:
        answer, fault = send_firehose(stack, given)
    assert fault is None, answer.text


def test_the_corpus_is_there() -> None:
    assert CORPUS
