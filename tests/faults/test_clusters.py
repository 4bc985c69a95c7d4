"""Three nodes of Apache Kafka with three copies of everything, Redis Cluster, and Sentinels."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from audience_core.errors import KafkaUnavailable
from audience_core.kafka.admin import TopicAdmin
from audience_core.topics import CHANGES
from audience_stream.embedded import free_port
from tests.faults.conftest import Make, Report
from tests.faults.firehose import Firehose, make_keys
from tests.faults.load import ACCOUNTS, Load
from tests.faults.redis_servers import RedisCluster, RedisServer, Sentinels, in_step
from tests.faults.system import System
from tests.pipeline.kafka_cluster import KafkaCluster
from tests.pipeline.running import eventually

pytestmark = pytest.mark.timeout(300)  # a cluster of three on two cores takes its time to elect leaders


@pytest.fixture
def on_three(make_system: Make, three_nodes: KafkaCluster, redis_at: RedisServer) -> System:
    return make_system(three_nodes, {"AUDIENCE_REDIS_URL": redis_at.url}, redis_at.client)


@pytest.fixture
def redis_cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    cluster = RedisCluster(tmp_path)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[Sentinels]:
    sentinels = Sentinels(tmp_path)
    try:
        sentinels.start()
        yield sentinels
    finally:
        sentinels.stop()


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_broker_killed_under_load_takes_nothing_with_it(
    on_three: System, three_nodes: KafkaCluster, report: Report, protocol: str
) -> None:
    on_three.environment["AUDIENCE_KAFKA_GROUP_PROTOCOL"] = protocol
    on_three.start("indexer")
    workers = [on_three.start("worker") for _ in range(2)]
    with on_three.stream(51, rate=200) as stream:
        eventually(lambda: all(worker.saw("shards_taken") for worker in workers), 60)
        for node in three_nodes.nodes[:2]:
            sent = stream.sent
            node.kill()
            eventually(lambda sent=sent: stream.sent > sent + 400, 120)  # type: ignore[misc]
            three_nodes.start_again()
    report.add(f"broker killed, {protocol} protocol", on_three.outcome_at_rest(), changes=stream.sent, trials=2)


def test_all_brokers_gone_and_back(on_three: System, three_nodes: KafkaCluster, report: Report) -> None:
    on_three.start("indexer")
    worker = on_three.start("worker")
    with on_three.stream(52, rate=200) as stream:
        eventually(lambda: stream.sent > 200, 60)
        for node in three_nodes.nodes:
            node.kill()
        three_nodes.start_again()
        sent = stream.sent
        eventually(lambda: stream.sent > sent + 400, 120)
    report.add("all brokers killed and back", on_three.outcome_at_rest(), changes=stream.sent)
    assert worker.stop() == 0


def test_the_offsets_of_a_topic_are_told_again_once_it_has_new_leaders(
    on_three: System, three_nodes: KafkaCluster
) -> None:
    admin, shards = TopicAdmin(on_three.settings), list(range(on_three.settings.shards))
    told: dict[int, int] = {}

    def all_told() -> bool:
        nonlocal told
        try:
            told = admin.starts(CHANGES, shards)
        except KafkaUnavailable:
            told = {}
        assert set(told.values()) <= {0}
        return told.keys() == set(shards)

    eventually(all_told, 30)
    three_nodes.nodes[0].kill()
    try:
        eventually(all_told, 60, False)
        eventually(all_told, 60)
    finally:
        three_nodes.start_again()


def test_a_rolling_restart_of_everything(on_three: System, three_nodes: KafkaCluster, report: Report) -> None:
    port = free_port()
    on_three.environment["AUDIENCE_GATEWAY_PORT"] = str(port)
    names = ("indexer", "worker", "worker", "gateway")
    running = [on_three.start(name) for name in names]
    eventually(lambda: all(on_three.client.hlen(f"catalog:{account}") for account in ACCOUNTS), 60)
    with Firehose(port, make_keys(on_three.settings, ACCOUNTS)) as firehose, on_three.stream(53, rate=100) as stream:
        load = Load(54)
        for step in (*range(len(names)), *three_nodes.nodes):
            for record in load.records(20):
                firehose.change(record)
            if isinstance(step, int):
                assert running[step].stop() == 0
                running[step] = on_three.start(names[step])
            else:
                step.stop()
                three_nodes.start_again()
        for record in load.records(20):
            firehose.change(record)
    on_three.sender.acknowledged |= firehose.acknowledged
    report.add("rolling restart of everything", on_three.outcome_at_rest(), changes=stream.sent + 160, trials=7)


def test_on_a_redis_cluster_all_is_as_on_one_redis(
    make_system: Make, one_node: KafkaCluster, redis_cluster: RedisCluster, report: Report
) -> None:
    named = {
        "AUDIENCE_REDIS_URL": redis_cluster.masters[0].url,
        "AUDIENCE_REDIS_NODES": redis_cluster.nodes,
        "AUDIENCE_REDIS_MODE": "cluster",
    }
    system = make_system(one_node, named, redis_cluster.client())
    api_port, gateway_port = free_port(), free_port()
    ports = {"AUDIENCE_API_PORT": str(api_port), "AUDIENCE_GATEWAY_PORT": str(gateway_port)}
    for service in ("indexer", "worker", "gateway", "api"):
        system.start(service, **ports)
    eventually(lambda: all(system.client.hlen(f"catalog:{account}") for account in ACCOUNTS), 60)
    keys = make_keys(system.settings, ACCOUNTS)
    backups = [master.take_backup() for master in redis_cluster.masters]
    with Firehose(gateway_port, keys) as firehose:
        for record in Load(55).records(300):
            firehose.change(record)
    system.sender.acknowledged |= firehose.acknowledged
    report.add("Redis Cluster", system.outcome_at_rest(), changes=300)
    for master, backup in zip(redis_cluster.masters, backups, strict=True):
        master.kill()
        master.come_back(backup)
    report.add("Redis Cluster, a master restored at a time", system.outcome_at_rest(), changes=0, trials=3)
    check_answers(system, api_port)


def check_answers(system: System, api_port: int) -> None:
    """Each route of the API that reads, and `verify`."""
    import httpx

    admin = {"Authorization": f"Bearer {system.environment['AUDIENCE_ADMIN_TOKEN']}"}
    members = {item[1:] for item in system.found() if item[0] == "member"}
    account, mpid, audience = min(members)
    with httpx.Client(base_url=f"http://127.0.0.1:{api_port}", trust_env=False, headers=admin) as http:
        rows = http.get(f"/accounts/{account}/segments/{mpid}").json()
        assert audience in {row["segment"] for row in rows if row["value"] == "member"}
        for path in ("audiences", "connectors", "api-keys", f"visitors/{mpid}", "segments"):
            assert http.get(f"/v1/accounts/{account}/{path}").status_code == 200, path
        rule = {"name": "Members", "rule": {"op": "or", "items": [{"audience_id": int(audience)}]}}
        made = http.post(f"/v1/accounts/{account}/segments", json=rule)
        assert made.status_code == 201, made.text
        matches = http.get(f"/v1/accounts/{account}/segments/{made.json()['id']}/visitors/{mpid}").json()
        assert matches["matches"]
        listed = http.get(f"/v1/accounts/{account}/segments").json()["segments"]
        assert listed[0]["size"] == sum((a, s) == (account, audience) for a, _, s in members)
    verified = system.start("verify")
    assert verified.wait() == 0, verified.tail()


def test_sentinels_tell_every_service_who_is_master_after_a_failover(
    make_system: Make, one_node: KafkaCluster, sentinels: Sentinels, report: Report
) -> None:
    named = {
        "AUDIENCE_REDIS_URL": f"redis://{Sentinels.NAME}/0",
        "AUDIENCE_REDIS_NODES": sentinels.nodes,
        "AUDIENCE_REDIS_MODE": "sentinel",
    }
    system = make_system(one_node, named, sentinels.master.client)
    port = free_port()
    for service in ("indexer", "worker", "gateway"):
        system.start(service, AUDIENCE_GATEWAY_PORT=str(port))
    eventually(lambda: all(system.client.hlen(f"catalog:{account}") for account in ACCOUNTS), 60)
    keys, load = make_keys(system.settings, ACCOUNTS), Load(56)
    with Firehose(port, keys) as firehose, system.stream(57, rate=200) as stream:
        for record in load.records(50):
            firehose.change(record)
        in_step(sentinels.master, sentinels.replica)
        sentinels.master.kill()
        system.client = sentinels.replica.client
        for record in load.records(50):
            firehose.change(record)
        sent = stream.sent
        eventually(lambda: stream.sent > sent + 400, 120)
    system.sender.acknowledged |= firehose.acknowledged
    report.add("master killed, Sentinels fail over", system.outcome_at_rest(), changes=stream.sent + 100)
