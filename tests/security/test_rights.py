"""TLS on every hop, a user for each service, and no right that it does not need: on Apache Kafka and Redis."""

import contextlib
import json
import os
import secrets
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from audience_core.topics import CHANGES, COUNTS, DEAD_LETTERS, ERASURES, SUBSCRIPTIONS
from audience_stream.embedded import free_port
from tests.faults.system import Process
from tests.pipeline.running import eventually
from tests.security.servers import ROOT, USERS, Certificates, SecureKafka, SecureRedis, kafka_options, passwords

SERVICES = ("gateway", "worker", "indexer", "api")


class Secured:
    """The system with a user for each service."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificates = Certificates(folder)
        self.kafka_words = passwords(folder / "kafka-passwords")
        self.redis_words = passwords(folder / "redis-passwords", "administrator")
        self.kafka = SecureKafka(folder, self.certificates)
        self.redis = SecureRedis(folder, self.certificates, folder / "redis-passwords")
        self.admin_token = secrets.token_urlsafe(24)
        self.ports = {name: free_port() for name in ("gateway", "api", "worker", "indexer")}
        self.pepper = secrets.token_urlsafe(24)
        trusted = ssl.create_default_context(cafile=str(self.certificates.ca))
        self.http = httpx.Client(verify=trusted, trust_env=False, timeout=10)
        self.processes: list[Process] = []

    def environment(self, user: str, options: dict[str, Any] | None = None) -> dict[str, str]:
        """Settings of a service; its secrets are files, as they are mounted."""
        mounted = self.folder / f"secrets-{user}"
        mounted.mkdir(exist_ok=True)
        given = options or kafka_options(user, self.kafka_words[user], self.certificates)
        for name, value in {
            "AUDIENCE_KAFKA_OPTIONS": json.dumps(given),
            "AUDIENCE_REDIS_URL": self.redis.url(user, self.redis_words[user]),
            "AUDIENCE_PEPPER": self.pepper,
            "AUDIENCE_ADMIN_TOKEN": self.admin_token,
        }.items():
            (mounted / name).write_text(value)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AUDIENCE_")}
        return {
            **inherited,
            "AUDIENCE_SECRETS_DIR": str(mounted),
            "AUDIENCE_KAFKA_BOOTSTRAP_SERVERS": self.kafka.address,
            "AUDIENCE_KAFKA_REPLICATION": "1",
            "AUDIENCE_SHARDS": "4",
            "AUDIENCE_HOST": "127.0.0.1",
            "AUDIENCE_GATEWAY_PORT": str(self.ports["gateway"]),
            "AUDIENCE_API_PORT": str(self.ports["api"]),
            "AUDIENCE_METRICS_PORT": str(self.ports.get(user, 0)),
            "AUDIENCE_TLS_CERTIFICATE": str(self.certificates.certificate),
            "AUDIENCE_TLS_KEY": str(self.certificates.key),
            "AUDIENCE_LOG_FORMAT": "json",
        }

    def command(self, user: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "audience_stream", *arguments],
            env=self.environment(user),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def url(self, service: str) -> str:
        return f"{'https' if service in {'gateway', 'api'} else 'http'}://127.0.0.1:{self.ports[service]}"

    def is_ready(self, service: str) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return self.http.get(f"{self.url(service)}/readyz").status_code == httpx.codes.OK
        return False

    def api(self, method: str, path: str, **body: Any) -> httpx.Response:
        bearer = {"Authorization": f"Bearer {self.admin_token}"}
        return self.http.request(method, f"{self.url('api')}{path}", headers=bearer, json=body or None)

    def firehose(self, kind: str, key: str, **fields: Any) -> httpx.Response:
        account = {"account_id": 1, "account_settings": {"apiKey": key}}
        common = {"type": kind, "id": str(uuid.uuid4()), "timestamp_ms": time.time_ns() // 1_000_000}
        for _ in range(50):  # as mParticle does: 503 means send it again
            answer = self.http.post(f"{self.url('gateway')}/firehose", json={**common, "account": account, **fields})
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(0.1)
        return answer

    def redis_client(self, user: str) -> "redis.Redis":
        return redis.Redis.from_url(self.redis.url(user, self.redis_words[user]), decode_responses=True)

    def kafka_client(self, user: str) -> dict[str, Any]:
        options = kafka_options(user, self.kafka_words[user], self.certificates)
        return {"bootstrap.servers": self.kafka.address, "log_level": 0, **options}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    system = Secured(tmp_path_factory.mktemp("secured"))
    with system.kafka, system.redis, system.http:
        rights = [sys.executable, str(ROOT / "deploy/security/kafka_users.py")]
        rights += ["--passwords", str(system.folder / "kafka-passwords")]
        environment = system.environment("operator", system.kafka.options())
        for _ in range(2):  # it may be run again
            subprocess.run(rights, env=environment, check=True, timeout=60)
        created = system.command("operator", "topics", "create")
        assert created.returncode == 0, created.stderr
        for service in SERVICES:
            command = [sys.executable, "-m", "audience_stream", service]
            log = system.folder / f"{service}.log"
            system.processes.append(Process(service, command, system.environment(service), log))
        try:
            for service in SERVICES:
                eventually(partial(system.is_ready, service), 60)
            yield system
        finally:
            codes = {process.name: process.stop() for process in system.processes}
    assert codes == dict.fromkeys(SERVICES, 0)


@pytest.mark.timeout(240)
def test_an_enter_reaches_segments_and_listing_with_these_rights_alone(secured: Secured) -> None:
    assert secured.api("POST", "/v1/accounts", id="acme", name="Acme").status_code == 201
    key = secured.api("POST", "/v1/accounts/acme/api-keys").json()["secret"]
    assert secured.firehose(
        "audience_subscription_request", key, audience_id=1, audience_name="A", action="add"
    ).is_success
    profile = {"mpid": "m-1", "audiences": [{"audience_id": 1, "audience_name": "A", "action": "add"}]}
    assert secured.firehose("audience_membership_change_request", key, user_profiles=[profile]).is_success

    def segments() -> list[str]:
        answer = secured.http.get(f"{secured.url('api')}/accounts/acme/segments/m-1")
        return [row["segment"] for row in answer.json()]

    def counted() -> list[int]:
        return [row["count"] for row in secured.api("GET", "/v1/accounts/acme/audiences").json()["audiences"]]

    eventually(segments, 10, ["1"])
    eventually(counted, 10, [1])
    bad = {"mpid": {"no": "text"}}
    assert secured.firehose("audience_membership_change_request", key, user_profiles=[bad]).is_success
    receipt = secured.api("DELETE", "/v1/accounts/acme/visitors/m-1")
    assert receipt.status_code == 202
    eventually(segments, 10, [])
    done = f"/v1/accounts/acme/erasures/{receipt.json()['request_id']}"
    eventually(lambda: secured.api("GET", done).json()["status"], 15, "done")
    verified = secured.command("operator", "verify")
    assert (verified.returncode, verified.stdout.splitlines()[-1]) == (0, "drift 0"), verified.stderr
    letters = secured.command("operator", "dlq", "list", "--json")
    assert letters.returncode == 0, letters.stderr
    behind = secured.command("operator", "status", "--json")
    assert (behind.returncode, json.loads(behind.stdout)["state"]) == (0, "caught_up"), behind.stderr
    # nobody was refused on the way: no log has an error
    for process in secured.processes:
        log = process.log.read_text()
        assert "NOPERM" not in log, process.name
        assert "AUTHORIZATION" not in log, process.name


def test_nobody_gets_in_without_a_name_or_without_tls(secured: Secured) -> None:
    plain = AdminClient({"bootstrap.servers": secured.kafka.address, "log_level": 0})
    assert refusal(lambda: plain.list_topics(timeout=3))
    wrong = secured.kafka_client("gateway") | {"sasl.password": "wrong"}
    assert refusal(lambda: AdminClient(wrong).list_topics(timeout=3))
    with pytest.raises(redis.ConnectionError), redis.Redis(port=secured.redis.port) as client:
        client.ping()
    url = f"rediss://127.0.0.1:{secured.redis.port}/0?ssl_ca_certs={secured.certificates.ca}"
    with pytest.raises(redis.AuthenticationError), redis.Redis.from_url(url) as client:
        client.ping()
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{secured.ports['gateway']}/livez", trust_env=False)


WRITES = {
    "gateway": {CHANGES, SUBSCRIPTIONS, DEAD_LETTERS},
    "worker": {COUNTS, DEAD_LETTERS, ERASURES},
    "indexer": {SUBSCRIPTIONS},
    "api": {CHANGES, SUBSCRIPTIONS, DEAD_LETTERS},
}
READS = {
    "gateway": {SUBSCRIPTIONS},
    "worker": {CHANGES},
    "indexer": {CHANGES, SUBSCRIPTIONS, COUNTS},
    "api": {DEAD_LETTERS},
}
ALL = {CHANGES, SUBSCRIPTIONS, COUNTS, DEAD_LETTERS, ERASURES}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("service", SERVICES)
def test_kafka_refuses_each_service_what_it_does_not_need(secured: Secured, service: str) -> None:
    client = secured.kafka_client(service)
    assert {topic for topic in ALL if not refused_to_read(client, topic)} == READS[service]
    assert {topic for topic in ALL if not refused_to_write(client, topic)} == WRITES[service]
    admin = AdminClient(client)
    made = admin.create_topics([NewTopic("another", 1, 1)], request_timeout=10)["another"]
    assert refusal(made.result) == KafkaError.TOPIC_AUTHORIZATION_FAILED
    gone = admin.delete_topics([CHANGES], request_timeout=10)[CHANGES]
    assert refusal(gone.result) in {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.UNKNOWN_TOPIC_OR_PART}


REFUSED = {
    "gateway": ["SMEMBERS {s0}:m:acme:m-1", "HSET keys x 1", "DEL index:acme", "GET segments:acme"],
    "worker": ["HGETALL keys", "HGETALL accounts", "SET catalog:acme 1", "HGETALL segments:acme"],
    "indexer": [
        "SADD {s0}:m:acme:m-1 1",
        "SMEMBERS {s0}:m:acme:m-1",
        "HSET accounts x 1",
        "HGETALL keys",
        "HGETALL segments:acme",
    ],
    "api": ["SADD {s0}:m:acme:m-1 1", "ZADD index:acme 1 1", "HSET catalog:acme 1 1", "DEL shards"],
}
NOBODY = [
    "FLUSHALL",
    "KEYS *",
    "CONFIG GET *",
    "ACL LIST",
    "SHUTDOWN NOSAVE",
    "CLIENT LIST",
    "SCRIPT FLUSH",
    "REPLICAOF NO ONE",
]


@pytest.mark.parametrize("service", SERVICES)
def test_redis_refuses_each_service_what_it_does_not_need(secured: Secured, service: str) -> None:
    with secured.redis_client(service) as client:
        assert client.ping()
        for command in (*REFUSED[service], *NOBODY):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command.split())


def test_the_table_of_rights_names_every_user(secured: Secured) -> None:
    command = [sys.executable, str(ROOT / "deploy/security/kafka_users.py"), "--show"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, env=secured.environment("operator"))
    assert tuple(json.loads(shown.stdout)) == USERS


def refusal(call: Any) -> int | None:
    """Code of the error that Kafka's client raises."""
    from confluent_kafka import KafkaException

    try:
        call()
    except KafkaException as error:
        code: int = error.args[0].code()
        return code
    return None


def refused_to_read(client: dict[str, Any], topic: str) -> bool:
    seen = AdminClient(client).list_topics(topic, timeout=10).topics[topic].error
    if seen is not None:
        assert seen.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED, seen
        return True
    consumer = Consumer({**client, "group.id": "a-test", "enable.auto.commit": False, "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    try:
        until = time.monotonic() + 15
        while time.monotonic() < until:
            message = consumer.poll(1)
            error = message.error() if message else None
            if message is not None and (error is None or error.code() == KafkaError._PARTITION_EOF):  # noqa: SLF001 - its only name
                return False
            if error is not None and error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                return True
        raise AssertionError(f"no answer about {topic}")
    finally:
        consumer.close()


def refused_to_write(client: dict[str, Any], topic: str) -> bool:
    producer = Producer({**client, "message.timeout.ms": 10_000})
    outcome: list[KafkaError | None] = []
    producer.produce(topic, b"\x00", b"key", partition=0, on_delivery=lambda error, _: outcome.append(error))
    producer.flush(15)
    [error] = outcome
    assert error is None or error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED, error
    return error is not None
