"""The command line: help, exit codes, and what scripts read."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest
import redis

from audience_stream.embedded import EmbeddedKafka, free_port

COMMANDS = [
    "up",
    "gateway",
    "worker",
    "indexer",
    "api",
    "topics create",
    "accounts create",
    "accounts list",
    "keys create",
    "keys list",
    "keys revoke",
    "keys rotate",
    "status",
    "verify",
    "reset-offsets",
    "simulate",
    "dlq list",
    "dlq show",
    "dlq replay",
    "config",
]


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AUDIENCE_")}
    return subprocess.run(
        [sys.executable, "-m", "audience_stream", *arguments],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    answer = run(*command.split(), "--help")
    assert answer.returncode == 0, answer.stderr
    assert "Example:" in answer.stdout


def test_a_wrong_setting_exits_with_2_and_names_the_variable() -> None:
    answer = run("verify", AUDIENCE_SHARDS="many")
    assert answer.returncode == 2
    assert "AUDIENCE_SHARDS" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_an_absent_redis_exits_with_1_and_one_line() -> None:
    answer = run("verify", AUDIENCE_REDIS_URL="redis://127.0.0.1:1/0", AUDIENCE_SHARDS="1")
    assert answer.returncode == 1
    assert len(answer.stderr.splitlines()) == 1


def test_config_hides_secrets_and_names_their_source() -> None:
    answer = run("config", "--json", AUDIENCE_ADMIN_TOKEN="not-to-be-seen", AUDIENCE_SHARDS="16")
    assert "not-to-be-seen" not in answer.stdout
    rows = {row["setting"]: row for row in json.loads(answer.stdout)}
    assert rows["AUDIENCE_SHARDS"]["value"] == "16"
    assert rows["AUDIENCE_SHARDS"]["source"] == "environment"
    assert rows["AUDIENCE_ADMIN_TOKEN"]["value"] == "***"
    assert rows["AUDIENCE_REDIS_TIMEOUT"]["source"] == "default"


def test_verify_exits_with_1_when_a_count_has_drifted(redis_url: str) -> None:
    settings = {"AUDIENCE_REDIS_URL": redis_url, "AUDIENCE_SHARDS": "4"}
    assert run("verify", **settings).stdout.splitlines()[-1] == "drift 0"
    with redis.Redis.from_url(redis_url) as client:
        client.hset("{s2}:c", "shop:7", 3)
    answer = run("verify", **settings)
    assert answer.returncode == 1
    assert answer.stdout.splitlines()[-1] == "drift 3"


def test_accounts_and_keys_can_be_made_by_scripts(redis_url: str) -> None:
    settings = {"AUDIENCE_REDIS_URL": redis_url, "AUDIENCE_PEPPER": "p" * 32}
    assert json.loads(run("accounts", "create", "shop", "The shop", "--json", **settings).stdout)["id"] == "shop"
    assert run("accounts", "create", "shop", "The shop", **settings).returncode == 1
    key = json.loads(run("keys", "create", "shop", "--json", **settings).stdout)
    assert len(key["secret"]) >= 43
    listed = run("keys", "list", "shop", "--json", **settings)
    assert key["secret"] not in listed.stdout
    assert json.loads(listed.stdout)[0]["status"] == "active"
    assert run("keys", "revoke", "shop", key["id"], **settings).returncode == 0
    assert json.loads(run("keys", "list", "shop", "--json", **settings).stdout)[0]["status"] == "revoked"


@pytest.mark.parametrize(("hash_count", "order_count"), [(2, 0), (0, 2)])
def test_verify_sees_either_half_of_a_wrong_listing(redis_url: str, hash_count: int, order_count: int) -> None:
    state = {"account": "shop", "audience_id": 7, "status": "ACTIVE", "epoch": 0}
    with redis.Redis.from_url(redis_url) as client:
        client.hset("catalog:shop", "7", json.dumps(state))
        client.hset("catalog::versions", "shop", 1)
        client.sadd("{s2}:m:shop:v-1", 7)
        client.sadd("{s2}:m:shop:v-2", 7)
        client.hset("{s2}:c", "shop:7", 2)
        client.hset("index:shop:counts", "7", json.dumps({"count": hash_count, "updated_at": 0}))
        client.zadd("index:shop", {"7": order_count})
    answer = run("verify", AUDIENCE_REDIS_URL=redis_url, AUDIENCE_SHARDS="4")
    assert (answer.returncode, answer.stdout.splitlines()[-1]) == (1, "drift 2"), answer.stderr


@pytest.mark.parametrize("user", ["user:s3cret/x@y", "s3cret", "user:s3cret", ":s3cret"])
def test_config_hides_what_an_address_holds_before_its_host(user: str) -> None:
    quoted = quote(user, safe=":")
    answer = run("config", "--json", AUDIENCE_SCHEMA_REGISTRY_URL=f"https://{quoted}@registry.example:8081/a?b=c@d")
    assert "s3cret" not in answer.stdout + answer.stderr
    shown = {row["setting"]: row["value"] for row in json.loads(answer.stdout)}
    assert shown["AUDIENCE_SCHEMA_REGISTRY_URL"] == "https://***@registry.example:8081/a?b=c@d"


def test_config_shows_both_defaults_of_the_metrics_port() -> None:
    rows = json.loads(run("config", "--json").stdout)
    assert [row["value"] for row in rows if row["setting"] == "AUDIENCE_METRICS_PORT"] == ["9101", "9102"]


def test_no_dead_letters_are_an_empty_list(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path) as server:
        settings = {"AUDIENCE_KAFKA_BOOTSTRAP_SERVERS": server.address, "AUDIENCE_KAFKA_REPLICATION": "1"}
        settings["AUDIENCE_SHARDS"] = "8"
        created = run("topics", "create", **settings)
        assert created.returncode == 0, created.stderr
        assert json.loads(run("dlq", "list", "--json", **settings).stdout) == []


def test_deleting_the_state_keeps_the_erased_and_can_be_taken_up_again(tmp_path: Path, redis_url: str) -> None:
    with EmbeddedKafka(tmp_path) as server, redis.Redis.from_url(redis_url, decode_responses=True) as client:
        settings = {"AUDIENCE_KAFKA_BOOTSTRAP_SERVERS": server.address, "AUDIENCE_KAFKA_REPLICATION": "1"}
        settings |= {"AUDIENCE_SHARDS": "8", "AUDIENCE_REDIS_URL": redis_url}
        assert run("topics", "create", **settings).returncode == 0
        client.hset("{s2}:o", mapping={"topic": "another", "offset": 9, "erased": 5})
        client.sadd("{s2}:m:shop:v 1", 7)
        client.hset("{s2}:c", "shop:7", 1)
        client.set("{s2}:x:shop:v-2", 5)
        client.set("{s2}:y:shop:e-mail", 5)
        client.hset("accounts", "shop", "{}")
        unsure = run("reset-offsets", "--delete-state", **settings)
        assert (unsure.returncode, client.scard("{s2}:m:shop:v 1")) == (1, 1)
        assert "Abort" in unsure.stderr
        client.hset("{s3}:o", "topic", "reset-offsets")  # as a deletion does at first, which is interrupted then
        half = run("reset-offsets", **settings)
        assert half.returncode == 1
        assert "interrupted" in half.stderr
        done = run("reset-offsets", "--delete-state", "--yes", "--json", **settings)
        assert json.loads(done.stdout) == {"shards": 8, "deleted_keys": 2, "incomplete_logs": 0}, done.stderr
        assert set(client.scan_iter()) == {"{s2}:o", "{s2}:x:shop:v-2", "{s2}:y:shop:e-mail", "accounts"}
        assert client.hgetall("{s2}:o") == {"erased": "5"}
        assert run("reset-offsets", **settings).returncode == 0


def test_dead_letters_of_an_absent_kafka_exit_with_1_and_one_line() -> None:
    answer = run("dlq", "list", AUDIENCE_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1", AUDIENCE_SHARDS="1")
    assert answer.returncode == 1
    assert len(answer.stderr.splitlines()) == 1


ANY_PORT = {"AUDIENCE_GATEWAY_PORT": "0", "AUDIENCE_API_PORT": "0", "AUDIENCE_METRICS_PORT": "0"}


@pytest.mark.parametrize("port", ["abc", "99999"])
def test_up_refuses_a_wrong_port_in_one_line(port: str) -> None:
    answer = run("up", **{**ANY_PORT, "AUDIENCE_GATEWAY_PORT": port})
    assert answer.returncode == 2
    assert "AUDIENCE_GATEWAY_PORT" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_up_names_a_taken_port_and_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        answer = run("up", **{**ANY_PORT, "AUDIENCE_API_PORT": port})
    assert answer.returncode == 1
    assert port in answer.stderr
    assert "AUDIENCE_API_PORT" in answer.stderr


@pytest.mark.parametrize("service", ["worker", "indexer"])
def test_a_service_tells_its_log_which_port_of_its_probes_is_taken(service: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        answer = run(service, AUDIENCE_HOST="127.0.0.1", AUDIENCE_METRICS_PORT=port)
    assert answer.returncode == 1
    stopped = json.loads(answer.stderr.splitlines()[-1])
    assert stopped["event"] == f"{service}_stopped"
    assert port in stopped["reason"]
    assert "AUDIENCE_METRICS_PORT" in stopped["reason"]
    assert "Traceback" not in answer.stderr


def test_no_port_is_given_twice_nor_one_that_an_outgoing_connection_may_get() -> None:
    ports = [free_port() for _ in range(2000)]
    assert len(set(ports)) == len(ports)
    assert max(ports) < 32_768


def test_up_refuses_a_ready_file_without_a_folder_before_it_starts_anything(tmp_path: Path) -> None:
    answer = run("up", "--ready-file", str(tmp_path / "none" / "ready.json"), **ANY_PORT)
    assert answer.returncode == 2
    assert len(answer.stderr.splitlines()) == 1


def test_up_gives_up_when_a_service_refuses_its_settings(tmp_path: Path) -> None:
    answer = run("up", **ANY_PORT, AUDIENCE_PEPPER="short", TMPDIR=str(tmp_path))
    assert answer.returncode == 1
    assert "AUDIENCE_PEPPER" in answer.stderr
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_during_start_up_ends_it_and_leaves_nothing_behind(tmp_path: Path) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AUDIENCE_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "audience_stream", "up"],
        # nothing listens there, so the services never become ready
        env={**inherited, **ANY_PORT, "AUDIENCE_REDIS_URL": "redis://127.0.0.1:1/0", "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 20
        while not list(tmp_path.iterdir()) and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    assert list(tmp_path.iterdir()) == []
