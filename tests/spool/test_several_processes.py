"""The processes of one gateway share the spool's folder, each with a file of its own."""

from pathlib import Path

import pytest

from tests.gateway.processes import children, kill
from tests.pipeline.running import Stack, eventually
from tests.spool.conftest import Broker, StartStack

pytestmark = pytest.mark.slow

AUDIENCE = 7101
SENDERS = 24


@pytest.mark.timeout(120)
def test_each_process_spools_for_itself_and_what_a_killed_one_had_acknowledged_is_applied(
    broker: Broker, start_stack: StartStack, tmp_path: Path
) -> None:
    folder = tmp_path / "spool"
    with start_stack(AUDIENCE_SPOOL_DIR=str(folder), AUDIENCE_GATEWAY_PROCESSES="2") as stack:
        assert stack.subscribe(AUDIENCE).status_code == 200
        assert sorted(path.name for path in folder.glob("*.db")) == ["spool-0.db", "spool-1.db"]
        eventually(lambda: sum(spooled_by_each(stack)), 20, 0)  # a Kafka that was slow just now
        refused_before = refused_by_the_spool(stack)
        broker.away()
        try:
            sent = send_over_many_connections(stack, "a")
            eventually(lambda: min(spooled_by_each(stack)) > 0, 5)
            # what a slow disk refused in time may be there all the same, and came again
            assert sent <= sum(spooled_by_each(stack)) <= sent + refused_by_the_spool(stack) - refused_before
            kill(children(stack.service_pid("gateway"))[1])
            sent += send_over_many_connections(stack, "b")
        finally:
            broker.back()
        eventually(lambda: stack.listing().get(AUDIENCE), 60, sent)
        eventually(lambda: sum(spooled_by_each(stack)), 20, 0)


def send_over_many_connections(stack: Stack, name: str) -> int:
    """One visitor enters over each connection; returns how many were acknowledged, which is all of them."""
    for number in range(SENDERS):
        sender = Stack(stack.ready, stack.process, stack.log)
        with sender.http:
            assert sender.change(f"{name}-{number}", AUDIENCE, "add").status_code == 200
    return SENDERS


def spooled_by_each(stack: Stack) -> list[float]:
    """Records in the spool of each process; 0 for one that does not run."""
    return [stack.metric("gateway", "audience_gateway_spool_records", process=str(number)) for number in range(2)]


def refused_by_the_spool(stack: Stack) -> float:
    """Answers of 503 because the disk was full or slow."""
    return stack.metric("gateway", "audience_gateway_unavailable_total", reason="spool")
