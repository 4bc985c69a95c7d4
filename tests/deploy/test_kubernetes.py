"""The Kubernetes manifests: each overlay built, parsed strictly, and compared with what the code needs."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.kubernetes.apps.v1 import Deployment, StatefulSet
from cloudcoil.models.kubernetes.autoscaling.v2 import HorizontalPodAutoscaler
from cloudcoil.models.kubernetes.batch.v1 import Job
from cloudcoil.models.kubernetes.core.v1 import ConfigMap, Namespace, Service
from cloudcoil.models.kubernetes.networking.v1 import Ingress, NetworkPolicy
from cloudcoil.models.kubernetes.policy.v1 import PodDisruptionBudget
from pydantic import BaseModel

from audience_core.observability.metrics_page import declared
from audience_core.settings import CoreSettings, load
from audience_indexer.settings import IndexerSettings
from audience_stream.healthcheck import PORTS
from ingest_gateway.settings import GatewaySettings
from membership_worker.settings import WorkerSettings
from segment_api.settings import ApiSettings
from tests.deploy.conftest import DEPLOY, kustomize, missing

Object = dict[str, Any]

MODELS: dict[tuple[str, str], type[BaseModel]] = {
    ("apps/v1", "Deployment"): Deployment,
    ("apps/v1", "StatefulSet"): StatefulSet,
    ("autoscaling/v2", "HorizontalPodAutoscaler"): HorizontalPodAutoscaler,
    ("batch/v1", "Job"): Job,
    ("keda.sh/v1alpha1", "ScaledObject"): ScaledObject,
    ("networking.k8s.io/v1", "Ingress"): Ingress,
    ("networking.k8s.io/v1", "NetworkPolicy"): NetworkPolicy,
    ("policy/v1", "PodDisruptionBudget"): PodDisruptionBudget,
    ("v1", "ConfigMap"): ConfigMap,
    ("v1", "Namespace"): Namespace,
    ("v1", "Service"): Service,
}
SETTINGS: dict[str, type[CoreSettings]] = {
    "gateway": GatewaySettings,
    "worker": WorkerSettings,
    "indexer": IndexerSettings,
    "api": ApiSettings,
    "topics": CoreSettings,
}
# KEDA takes any key of a trigger's metadata and ignores the ones that it does not know
PROMETHEUS_TRIGGER = {"serverAddress", "query", "threshold", "activationThreshold", "ignoreNullValues"}


class Cluster:
    """The objects of one overlay."""

    def __init__(self, overlay: str) -> None:
        command = [*kustomize(), str(DEPLOY / "kubernetes" / "overlays" / overlay)]
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stderr
        self.overlay = overlay
        self.objects: list[Object] = list(yaml.safe_load_all(built.stdout))

    def of(self, kind: str) -> list[Object]:
        return [found for found in self.objects if found["kind"] == kind]

    def workloads(self) -> list[Object]:
        return self.of("Deployment") + self.of("StatefulSet") + self.of("Job")

    def ours(self) -> dict[str, Object]:
        """Name → Deployment or Job of this project."""
        return {found["metadata"]["name"]: found for found in self.workloads() if found["metadata"]["name"] in SETTINGS}

    def settings(self) -> dict[str, str]:
        [found] = self.of("ConfigMap")
        variables: dict[str, str] = found["data"]
        return variables


@pytest.fixture(scope="module", params=["dev", "production", "production-spool", "production-many-cores"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    return Cluster(request.param)


@pytest.fixture(scope="module")
def production() -> Cluster:
    return Cluster("production")


def pod(workload: Object) -> Object:
    found: Object = workload["spec"]["template"]["spec"]
    return found


def container(workload: Object) -> Object:
    [found] = pod(workload)["containers"]
    return dict(found)


def probes(workload: Object) -> Iterator[tuple[str, Object]]:
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        if name in container(workload):
            yield name, container(workload)[name]["httpGet"]


def test_every_object_is_of_a_known_kind_and_has_no_field_that_its_kind_does_not_know(cluster: Cluster) -> None:
    for found in cluster.objects:
        model = MODELS[found["apiVersion"], found["kind"]]
        model.model_validate(found, extra="forbid")


def test_a_misspelt_field_would_not_pass(production: Cluster) -> None:
    worker = production.ours()["worker"]
    pod(worker)["terminationGracePeriodSecond"] = pod(worker)["terminationGracePeriodSeconds"]
    try:
        with pytest.raises(ValueError, match="terminationGracePeriodSecond"):
            Deployment.model_validate(worker, extra="forbid")
    finally:
        del pod(worker)["terminationGracePeriodSecond"]


def test_every_service_is_deployed(cluster: Cluster) -> None:
    assert set(cluster.ours()) == set(SETTINGS)
    for name, workload in cluster.ours().items():
        assert container(workload)["args"] == (["topics", "create"] if name == "topics" else [name])


def test_every_variable_is_a_setting_and_every_service_reads_them(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    known = {f"AUDIENCE_{name.upper()}" for kind in SETTINGS.values() for name in kind.model_fields}
    variables = cluster.settings()
    assert set(variables) <= known
    for name in [name for name in os.environ if name.startswith("AUDIENCE_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AUDIENCE_SECRETS_DIR", str(tmp_path_factory.mktemp("secrets")))
    for kind in SETTINGS.values():
        load(kind)


def test_secrets_come_as_files_where_the_services_look_for_them_and_none_is_in_the_manifests(cluster: Cluster) -> None:
    assert cluster.of("Secret") == []
    folder = cluster.settings()["AUDIENCE_SECRETS_DIR"]
    for name, workload in cluster.ours().items():
        [secret] = [volume for volume in pod(workload)["volumes"] if volume["name"] == "secrets"]
        assert secret["secret"]["secretName"] == name, "a service sees only its own secrets"
        [mount] = [mount for mount in container(workload)["volumeMounts"] if mount["name"] == "secrets"]
        assert (mount["mountPath"], mount["readOnly"]) == (folder, True)
        assert "env" not in container(workload)


def test_ports_and_probes_are_those_of_the_services(cluster: Cluster) -> None:
    for name, (_, port) in PORTS.items():
        workload = cluster.ours()[name]
        [declared] = container(workload)["ports"]
        assert declared["containerPort"] == port
        found = dict(probes(workload))
        assert set(found) == {"startupProbe", "livenessProbe", "readinessProbe"}
        for probe, asked in found.items():
            assert asked["port"] == declared["name"]
            assert asked["path"] == ("/readyz" if probe == "readinessProbe" else "/livez")


def test_every_pod_meets_the_restricted_profile(cluster: Cluster) -> None:
    [namespace] = cluster.of("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for workload in cluster.workloads():
        context, inner = pod(workload)["securityContext"], container(workload)["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert inner["allowPrivilegeEscalation"] is False
        assert inner["capabilities"] == {"drop": ["ALL"]}
        assert pod(workload)["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod(workload))


def test_our_pods_run_as_the_images_user_on_a_read_only_root(cluster: Cluster) -> None:
    for workload in cluster.ours().values():
        assert pod(workload)["securityContext"]["runAsUser"] == 10001
        assert container(workload)["securityContext"]["readOnlyRootFilesystem"] is True


def test_every_container_has_its_memory_reserved_and_no_cpu_limit(cluster: Cluster) -> None:
    for workload in cluster.workloads():
        resources = container(workload)["resources"]
        assert resources["limits"] == {"memory": resources["requests"]["memory"]}
        assert resources["requests"]["cpu"]


def test_every_image_is_pinned(cluster: Cluster) -> None:
    for workload in cluster.workloads():
        name, _, tag = container(workload)["image"].rpartition(":")
        assert name, workload["metadata"]["name"]
        assert tag != "latest"


def test_a_pod_has_longer_to_stop_than_its_service_needs(cluster: Cluster) -> None:
    for name in ("gateway", "api"):
        sleep = container(cluster.ours()[name])["lifecycle"]["preStop"]["sleep"]["seconds"]
        # open requests get 5 s, the producer's queue 5 s more: ingest_gateway/main.py, segment_api/main.py
        assert pod(cluster.ours()[name])["terminationGracePeriodSeconds"] >= sleep + 5 + 5 + 5
    drain = WorkerSettings.model_fields["drain_timeout"].default.total_seconds()
    assert pod(cluster.ours()["worker"])["terminationGracePeriodSeconds"] >= drain + 5


def test_who_is_scaled_has_no_number_of_replicas_of_its_own(cluster: Cluster) -> None:
    scalers = cluster.of("HorizontalPodAutoscaler") + cluster.of("ScaledObject")
    scaled = {found["spec"]["scaleTargetRef"]["name"] for found in scalers}
    # what a scaled-away gateway has spooled would stay on its disk
    all_three = {"gateway", "api", "worker"}
    expected = {
        "dev": set(),
        "production": all_three,
        "production-spool": {"api", "worker"},
        "production-many-cores": all_three,
    }
    assert scaled == expected[cluster.overlay]
    for name in scaled:
        assert "replicas" not in cluster.ours()[name]["spec"]
    assert cluster.ours()["indexer"]["spec"]["replicas"] == 1


def test_workers_scale_with_measured_seconds_of_lag_and_never_beyond_the_shards(production: Cluster) -> None:
    [scaled] = production.of("ScaledObject")
    assert scaled["spec"]["maxReplicaCount"] == int(production.settings()["AUDIENCE_SHARDS"])
    assert scaled["spec"]["minReplicaCount"] >= 2
    known = {series for metric in declared() for series in metric.series}
    for trigger in scaled["spec"]["triggers"]:
        assert set(trigger["metadata"]) <= PROMETHEUS_TRIGGER
        assert all(isinstance(value, str) for value in trigger["metadata"].values())
        assert trigger["metadata"]["ignoreNullValues"] == "false"
        promql_parser.parse(trigger["metadata"]["query"])
        named = set(re.findall(r"audience_\w+", trigger["metadata"]["query"]))
        assert named
        assert named <= known
    down = scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert down["stabilizationWindowSeconds"] >= 900


def test_workers_are_asked_for_by_their_work_and_by_lag_but_not_while_they_retry(
    production: Cluster, tmp_path: Path
) -> None:
    promtool = shutil.which("promtool") or missing("promtool (Debian: prometheus)")
    [scaled] = production.of("ScaledObject")
    queries = {trigger["name"]: trigger["metadata"]["query"] for trigger in scaled["spec"]["triggers"]}
    step = "audience_worker_step_duration_seconds_sum"
    series = {
        f'{step}{{instance="a",step="apply"}}': "0+7.5x60",  # half of its time
        f'{step}{{instance="b",step="decode"}}': "0+3.75x60",  # a quarter
        f'{step}{{instance="b",step="read"}}': "0+11x60",  # waiting for records is no work
        'audience_worker_retries_total{instance="a"}': "0x20 1+1x8 9x40",  # from minute 5 to minute 7
        'audience_shard_lag_seconds{shard="0"}': "0x60",
        'audience_shard_lag_seconds{shard="1"}': "30x60",
    }
    answers: list[tuple[str, str, list[float]]] = [
        ("busy", "5m", [0.75]),
        ("lag", "5m", [30]),
        ("busy", "6m", []),
        ("lag", "6m", []),
        ("lag", "10m", [30]),
    ]
    test = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": queries[name], "eval_time": when, "exp_samples": [{"value": value} for value in values]}
            for name, when, values in answers
        ],
    }
    file = tmp_path / "scaling.yml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "15s", "tests": [test]}))
    ran = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_spool_is_on_a_disk_that_outlives_its_pod_and_is_where_the_gateway_looks_for_it() -> None:
    cluster = Cluster("production-spool")
    gateway = cluster.ours()["gateway"]
    assert (gateway["kind"], gateway["spec"]["replicas"]) == ("StatefulSet", 3)
    mounts = {mount["name"]: mount["mountPath"] for mount in container(gateway)["volumeMounts"]}
    [claim] = gateway["spec"]["volumeClaimTemplates"]
    assert mounts[claim["metadata"]["name"]] == cluster.settings()["AUDIENCE_SPOOL_DIR"]
    size = claim["spec"]["resources"]["requests"]["storage"]
    assert int(size.removesuffix("Gi")) * 2**30 >= 2 * GatewaySettings.model_fields["spool_bytes"].default


def test_every_gateway_process_has_a_core_and_the_memory_of_a_pod_of_one_process(production: Cluster) -> None:
    cluster = Cluster("production-many-cores")
    processes = processes_of(cluster.settings())
    assert processes > 1
    assert processes_of(production.settings()) == 1
    many, one = (container(found.ours()["gateway"])["resources"]["requests"] for found in (cluster, production))
    assert int(many["cpu"]) == processes * int(one["cpu"])
    assert int(many["memory"].removesuffix("Gi")) * 1024 == processes * int(one["memory"].removesuffix("Mi"))


def processes_of(settings: dict[str, str]) -> int:
    default: int = GatewaySettings.model_fields["gateway_processes"].default
    return int(settings.get("AUDIENCE_GATEWAY_PROCESSES", default))


def matches(selector: Object, labels: dict[str, str]) -> bool:
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in expressions)
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )


def labels_of(workload: Object) -> dict[str, str]:
    labels: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return labels


def test_every_selector_selects_a_pod(cluster: Cluster) -> None:
    pods = [labels_of(workload) for workload in cluster.workloads()]
    selectors = [found["spec"]["selector"] for found in cluster.of("PodDisruptionBudget") + cluster.of("Deployment")]
    selectors += [{"matchLabels": found["spec"]["selector"]} for found in cluster.of("Service")]
    selectors += [found["spec"]["podSelector"] for found in cluster.of("NetworkPolicy")]
    for selector in selectors:
        assert any(matches(selector, labels) for labels in pods), selector


def test_everything_is_denied_but_what_each_service_needs(cluster: Cluster) -> None:
    policies = {found["metadata"]["name"]: found["spec"] for found in cluster.of("NetworkPolicy")}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}

    def allowed(name: str) -> set[str]:
        labels = labels_of(cluster.ours()[name])
        return {policy for policy, spec in policies.items() if matches(spec["podSelector"], labels)} - {"default-deny"}

    everyone = {"names", "kafka", "metrics"}
    assert {name: allowed(name) - everyone for name in SETTINGS} == {
        "gateway": {"redis", "requests", "test-messages-in"},
        "api": {"redis", "requests", "test-messages-out"},
        "worker": {"redis"},
        "indexer": {"redis"},
        "topics": set(),
    }
    for spec in policies.values():
        for rule in spec.get("ingress", []) + spec.get("egress", []):
            assert rule["ports"], "a rule names its ports"
            assert rule.get("from") or rule.get("to"), "and its other side"


def test_only_firehose_and_segments_are_open_to_the_world(production: Cluster) -> None:
    [ingress] = production.of("Ingress")
    paths = {
        (path["path"], path["backend"]["service"]["name"])
        for rule in ingress["spec"]["rules"]
        for path in rule["http"]["paths"]
    }
    assert paths == {("/firehose", "gateway"), ("/accounts/", "api")}
