"""Several gateway processes behind one port: AUDIENCE_GATEWAY_PROCESSES."""

import contextlib
import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ingest_gateway.probing import merged
from tests.gateway.processes import children, gateway, is_running, kill
from tests.pipeline.running import Stack, eventually
from tests.pipeline.starting import started

pytestmark = pytest.mark.slow

SEVERAL = {"AUDIENCE_GATEWAY_PROCESSES": "2"}
CONNECTIONS = 24  # all of them at one of two processes: once in eight million times


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with started(tmp_path_factory.mktemp("processes"), **SEVERAL) as running:
        yield running


@pytest.fixture
def environment(stack: Stack) -> dict[str, str]:
    """For a gateway of a test's own on the stack's servers."""
    settings: dict[str, str] = stack.ready["environment"]
    return settings


@contextlib.contextmanager
def connections(stack: Stack) -> Iterator[list[Stack]]:
    """Senders with a connection each, which the kernel spreads over the processes."""
    with contextlib.ExitStack() as opened:
        senders = [Stack(stack.ready, stack.process, stack.log) for _ in range(CONNECTIONS)]
        for sender in senders:
            opened.enter_context(sender.http)
        yield senders


def answered_by(stack: Stack) -> list[float]:
    """Messages that each process accepted, as whichever is asked tells it. A busy machine may refuse one first."""
    name = "audience_gateway_requests_total"
    return [stack.metric("gateway", name, process=str(n), status="200") for n in range(2)]


def test_every_process_serves_and_the_metrics_of_all_are_exact_whoever_is_asked(stack: Stack) -> None:
    before, account = answered_by(stack), stack.new_account("exact")
    with connections(stack) as senders:
        for number in range(10):
            for sender in senders:
                assert sender.change(f"exact-{number}", 1, "add", account).status_code == 200
        answered = [now - then for now, then in zip(answered_by(stack), before, strict=True)]
        assert sum(answered) == 10 * CONNECTIONS
        assert min(answered) > 0
        for sender in senders:
            assert [now - then for now, then in zip(answered_by(sender), before, strict=True)] == answered
    text = stack.http.get(f"{stack.ready['gateway_url']}/metrics").text
    assert text.count("# TYPE audience_gateway_requests_total counter") == 1
    assert stack.metric("gateway", "process_start_time_seconds", process="1") > 0


def test_a_revoked_key_is_refused_by_every_process_within_five_seconds(stack: Stack) -> None:
    key = stack.new_account("revoked")
    [listed] = stack.api("GET", "/v1/accounts/revoked/api-keys").json()["api_keys"]
    with connections(stack) as senders:
        for sender in senders:
            assert sender.change("1", 1, "add", key).json()["suspend_subscription"] is False
        assert stack.api("DELETE", f"/v1/accounts/revoked/api-keys/{listed['id']}").status_code == 204
        until = time.monotonic() + 5
        for sender in senders:

            def is_refused(sender: Stack = sender) -> bool:
                return bool(sender.change("1", 1, "add", key).json()["suspend_subscription"])

            eventually(is_refused, max(0.0, until - time.monotonic()))


def test_when_a_process_is_killed_under_load_the_others_answer_it_is_replaced_and_nothing_acknowledged_is_lost(
    stack: Stack,
) -> None:
    parent, url = stack.service_pid("gateway"), stack.ready["gateway_url"]
    account = stack.new_account("killed")
    eventually(lambda: len(children(parent)), 5, 2)
    acknowledged: list[str] = []
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            sender = Stack(stack.ready, stack.process, stack.log)
            with contextlib.suppress(httpx.HTTPError), sender.http:
                for _ in range(5):
                    mpid = str(uuid.uuid4().int % 2**62)
                    if sender.change(mpid, 1, "add", account).status_code == 200:
                        acknowledged.append(mpid)

    senders = [threading.Thread(target=send) for _ in range(4)]
    for sender in senders:
        sender.start()
    eventually(lambda: len(acknowledged) > 50, 10)
    killed = children(parent)[1]
    kill(killed)
    answered = len(acknowledged)
    eventually(lambda: len(acknowledged) > answered + 10, 5)
    eventually(lambda: httpx.get(f"{url}/readyz", trust_env=False).status_code, 5, 200)
    assert len(children(parent)) == 2
    assert killed not in children(parent)
    eventually(lambda: stack.metric("gateway", "audience_gateway_requests_total", process="1") > 0, 5)
    stop.set()
    for sender in senders:
        sender.join()
    eventually(lambda: [mpid for mpid in acknowledged if not stack.segments(mpid, "killed")], 10, [])


@pytest.mark.parametrize("by_the_terminal", [False, True], ids=["SIGTERM", "Ctrl-C"])
def test_a_stop_ends_every_process_gracefully_and_the_exit_code_is_0(
    environment: dict[str, str], tmp_path: Path, *, by_the_terminal: bool
) -> None:
    with gateway(environment, tmp_path / "log", **SEVERAL) as running:
        running.become_ready()
        own = children(running.pid)
        assert len(own) == 2
        with httpx.Client(trust_env=False, base_url=running.url) as kept:
            assert kept.get("/livez").status_code == 200  # an idle connection keeps nobody
            if by_the_terminal:
                os.killpg(running.pid, signal.SIGINT)
            else:
                running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(10) == 0, running.said()
        assert not any(map(is_running, own))
        assert running.said() == ""


def test_a_stop_that_comes_while_the_processes_are_being_started_is_heard(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with gateway(environment, tmp_path / "log", **SEVERAL) as running:
        eventually(lambda: bool(children(running.pid)), 10)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(10) == 0, running.said()


def test_no_process_outlives_a_parent_that_was_killed_and_the_port_is_free_at_once(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with gateway(environment, tmp_path / "log", **SEVERAL) as running:
        running.become_ready()
        own = children(running.pid)
        running.process.kill()
        running.process.wait()
        eventually(lambda: [pid for pid in own if is_running(pid)], 2, [])
        with gateway(environment, tmp_path / "next", AUDIENCE_GATEWAY_PORT=str(running.port), **SEVERAL) as following:
            following.become_ready()


def test_a_process_that_dies_again_and_again_is_started_after_pauses_that_grow_and_the_probes_answer_meanwhile(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with gateway(environment, tmp_path / "log", **SEVERAL) as running:
        running.become_ready()
        for _ in range(2):
            kill(children(running.pid)[1])
            eventually(lambda: len(children(running.pid)), 5, 2)
        kill(children(running.pid)[1])
        ready = httpx.get(f"{running.url}/readyz", trust_env=False)
        assert (ready.status_code, ready.json()["missing"]) == (503, ["process 1 is being started"])
        assert running.probe("/livez") == 200
        metrics = httpx.get(f"{running.url}/metrics", trust_env=False).text
        assert 'process="0"' in metrics
        assert 'process="1"' not in metrics
        running.become_ready()
        told = running.logged("child_ended")
        assert [line["started_again_in_s"] for line in told] == [0.5, 1.0, 2.0]
        assert {(line["process"], line["code"]) for line in told} == {(1, -signal.SIGKILL)}


def test_a_process_that_hangs_makes_the_gateway_dead_so_that_kubernetes_restarts_it(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with gateway(environment, tmp_path / "log", **SEVERAL) as running:
        running.become_ready()
        os.kill(children(running.pid)[1], signal.SIGSTOP)
        # over some connections the hanging process is asked, and does not answer at all
        eventually(lambda: running.probe("/livez"), 30, 503)
        eventually(lambda: running.probe("/readyz"), 30, 503)


@pytest.mark.parametrize(
    ("settings", "code", "message"),
    [
        ({"AUDIENCE_PEPPER": "short"}, 2, "AUDIENCE_PEPPER is not set or shorter than 16 characters"),
        ({"AUDIENCE_GATEWAY_PROCESSES": "0"}, 2, "AUDIENCE_GATEWAY_PROCESSES"),
        ({"AUDIENCE_SPOOL_DIR": "/proc/nowhere"}, 1, "AUDIENCE_SPOOL_DIR /proc/nowhere can't be used"),
    ],
)
def test_what_keeps_a_gateway_from_starting_is_said_once_and_ends_it(
    environment: dict[str, str], tmp_path: Path, settings: dict[str, str], code: int, message: str
) -> None:
    with gateway({**environment, **SEVERAL, **settings}, tmp_path / "log") as running:
        assert running.process.wait(20) == code, running.said()
        assert running.said().count(message) == 1
        assert "Traceback" not in running.said()


def test_a_certificate_that_cannot_be_read_ends_the_gateway_instead_of_starting_its_processes_for_ever(
    environment: dict[str, str], tmp_path: Path
) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    tls = dict.fromkeys(("AUDIENCE_TLS_CERTIFICATE", "AUDIENCE_TLS_KEY"), str(nonsense))
    with gateway(environment, tmp_path / "log", **tls, **SEVERAL) as running:
        assert running.process.wait(20) == 1
        assert [line["code"] for line in running.logged("child_not_started")] == [1]


def test_a_taken_port_is_told_once_also_by_a_gateway_of_several_processes(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with gateway(environment, tmp_path / "log", **SEVERAL) as first:
        first.become_ready()
        for processes in ("1", "2"):
            again = {"AUDIENCE_GATEWAY_PORT": str(first.port), "AUDIENCE_GATEWAY_PROCESSES": processes}
            with gateway(environment, tmp_path / "second", **again) as second:
                assert second.process.wait(20) == 1
                assert [line["setting"] for line in second.logged("port_taken")] == ["AUDIENCE_GATEWAY_PORT"]
        assert first.probe() == 200


def test_a_gateway_of_one_process_forks_nothing_and_labels_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    with gateway(environment, tmp_path / "log", AUDIENCE_GATEWAY_PROCESSES="1") as running:
        running.become_ready()
        assert children(running.pid) == []
        assert 'process="' not in httpx.get(f"{running.url}/metrics", trust_env=False).text
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(10) == 0


def test_texts_of_several_processes_become_one_in_which_each_family_has_one_head() -> None:
    first = b'# HELP a_total A\n# TYPE a_total counter\na_total{process="0"} 1.0\n# HELP b B\n# TYPE b gauge\nb 1.0\n'
    second = b'# HELP a_total A\n# TYPE a_total counter\na_total{process="1"} 2.0\n# HELP c C\n# TYPE c gauge\n'
    assert merged([first, second]).decode().splitlines() == [
        "# HELP a_total A",
        "# TYPE a_total counter",
        'a_total{process="0"} 1.0',
        'a_total{process="1"} 2.0',
        "# HELP b B",
        "# TYPE b gauge",
        "b 1.0",
        "# HELP c C",
        "# TYPE c gauge",
    ]
