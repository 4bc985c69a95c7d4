"""The command line: help, exit codes, and what scripts read."""

import json
import os
import subprocess
import sys

import pytest
import redis

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
    "verify",
    "simulate",
    "dlq list",
    "dlq show",
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
