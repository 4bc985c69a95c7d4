"""Services as real processes on real servers, and what a case does with them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from audience_core.kafka.admin import TopicAdmin
from audience_core.settings import CoreSettings
from audience_core.topics import CHANGES, TOPICS
from tests.faults.comparison import (
    Item,
    Outcome,
    Subscriptions,
    catalog_differences,
    compare,
    found_items,
    listing_drift,
    stored_offsets,
)
from tests.faults.load import ACCOUNTS, AUDIENCES, Load, Sender, Stream, subscription
from tests.faults.log import ChangesLog
from tests.pipeline.running import eventually

SHARDS = 8
ALL = [spec.name for spec in TOPICS]
SETTLE_S = 60.0


class Process:
    """A service under an environment; its log, one JSON object a line, goes into a file."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.pid = self._process.pid

    def _logged(self) -> list[dict[str, Any]]:
        lines = self.log.read_text("utf-8", "replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Log events of a name."""
        return [event for event in self._logged() if event.get("event") == name]

    def saw(self, event: str) -> bool:
        """Whether it has logged an event."""
        return bool(self.events(event))

    def refusal(self) -> str:
        """Wait for it to stop by itself, with the code 1, and return why."""
        assert self.wait() == 1, self.tail()
        return str(self.events("worker_stopped")[0]["reason"])

    def taken(self) -> int:
        """How many shards it has taken, all in all."""
        return sum(len(event["shards"]) for event in self.events("shards_taken"))

    def shards(self) -> set[int]:
        """Those that it has now, by its log."""
        owned: set[int] = set()
        for event in self._logged():
            if event.get("event") == "shards_taken":
                owned |= {int(number) for number in event["shards"]}
            elif event.get("event") == "shards_revoked":
                owned -= set(event["shards"])
        return owned

    def send(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def ended(self) -> bool:
        """Whether it is gone."""
        return self._process.poll() is not None

    def wait(self, seconds: float = 40) -> int:
        """Wait for its end and return the exit code; a signal's number is negative."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.thaw()
            self.send(signal.SIGABRT)  # writes where each thread is, see PYTHONFAULTHANDLER
            self._process.wait()
            raise AssertionError(f"{self.name} went on; its log and, last, where it was:\n{self.tail()}") from None

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        self.send(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """kill -9, also when it is stopped or gone."""
        if not self.ended():
            self.send(signal.SIGKILL)
        self._process.wait()

    def thaw(self) -> None:
        """Let a stopped one go on."""
        self.send(signal.SIGCONT)

    def is_stopped(self) -> bool:
        """Whether it was stopped by a signal."""
        return Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"

    def tail(self) -> str:
        """End of its log."""
        return self.log.read_text("utf-8", "replace")[-3000:]


class System:
    """Fresh topics, a group of its own, and a Redis; processes are started as a case needs them."""

    def __init__(self, folder: Path, bootstrap: str, redis: dict[str, str], client: Any, **environment: str) -> None:
        self.folder = folder
        self.client = client
        self.environment = {
            "PYTHONFAULTHANDLER": "1",
            "AUDIENCE_KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "AUDIENCE_KAFKA_REPLICATION": str(min(3, bootstrap.count(",") + 1)),
            "AUDIENCE_KAFKA_SESSION_TIMEOUT": "2s",
            "AUDIENCE_SHARDS": str(SHARDS),
            "AUDIENCE_WORKER_BATCH": "40",  # so that a small load is many batches
            "AUDIENCE_INDEXER_COMPARE_EVERY": "1h",  # it would mend counts that workers got wrong, or never told
            "AUDIENCE_WORKER_GROUP": f"worker-{time.time_ns()}",
            "AUDIENCE_HOST": "127.0.0.1",
            "AUDIENCE_GATEWAY_PORT": "0",
            "AUDIENCE_API_PORT": "0",
            "AUDIENCE_METRICS_PORT": "0",
            "AUDIENCE_PEPPER": "a pepper of the tests",
            "AUDIENCE_ADMIN_TOKEN": "an-admin-token-of-the-tests",
            "AUDIENCE_LOG_FORMAT": "json",
            **redis,
            **environment,
        }
        self.settings = self._settings()
        self.processes: list[Process] = []
        self.subscriptions: Subscriptions = {}
        self.begin()

    def begin(self) -> None:
        """Make fresh topics, and clients that have not met those of before."""
        recreate_topics(self.settings)
        self.sender = Sender(self.settings)
        self.log = ChangesLog(self.settings.kafka_bootstrap_servers, self.settings.shards)
        self.subscribe()

    def lose_the_log(self) -> None:
        """Make the topic of changes anew, and that alone."""
        former = self.log
        recreate_topics(self.settings, [CHANGES])
        self.sender = Sender(self.settings)
        self.log = ChangesLog(self.settings.kafka_bootstrap_servers, self.settings.shards)
        self.log.former = {shard: list(records.values()) for shard, records in former.records.items()}
        former.close()

    def _settings(self) -> CoreSettings:
        names = {name.removeprefix("AUDIENCE_").lower(): value for name, value in self.environment.items()}
        return CoreSettings.model_validate({k: v for k, v in names.items() if k in CoreSettings.model_fields})

    def subscribe(self) -> None:
        """Connect every audience of the load."""
        for account in ACCOUNTS:
            for audience in AUDIENCES:
                state = subscription(account, audience)
                self.subscriptions[account, audience] = state
                self.sender.subscribe(state)

    def start(self, service: str, fault: str = "", **environment: str) -> Process:
        """Start a service; `fault`: `point:n:signal`, see faulty_worker.py and faulty_gateway.py."""
        module = [f"tests.faults.faulty_{service}"] if fault else ["audience_stream", *service.split()]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AUDIENCE_")}
        log = self.folder / f"{len(self.processes)}-{service.partition(' ')[0]}.log"
        process = Process(
            service,
            [sys.executable, "-m", *module],
            {**inherited, **self.environment, **environment, "FAULT": fault},
            log,
        )
        self.processes.append(process)
        return process

    def run(self, *command: str) -> str:
        """Run a command to its end and return what it prints."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AUDIENCE_")}
        ran = subprocess.run(
            [sys.executable, "-m", "audience_stream", *command],
            env=inherited | self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def stream(self, seed: int, rate: int = 400) -> Stream:
        """A load in the background."""
        return Stream(self.sender, Load(seed), rate)

    def offsets(self) -> dict[int, int]:
        """Stored offset of each shard."""
        return stored_offsets(self.client, self.settings.shards)

    def is_applied(self) -> bool:
        """Whether Redis stands at the log's end."""
        self.log.read()
        return self.offsets() == self.log.ends

    def settle(self, within: float = SETTLE_S) -> None:
        """Wait until everything is applied."""
        until = time.monotonic() + within
        while not self.is_applied():
            assert time.monotonic() < until, f"Redis stands at {self.offsets()}, the log ends at {self.log.ends}"
            time.sleep(0.05)

    def outcome(self) -> Outcome:
        """Compare what Redis holds now with the log up to the offsets that it holds; the workers must be at rest."""
        self.log.read()
        states = self.log.state_at(self.settings, self.offsets())
        return compare(self.client, self.log, states, self.sender.acknowledged)

    def outcome_at_rest(self, within: float = SETTLE_S) -> Outcome:
        """Wait for the log's end, compare everything, and give the listing `within` seconds to agree."""
        self.settle(within)
        states = self.log.state_at(self.settings, self.log.ends)
        until = time.monotonic() + within
        while self._unlisted(states) and time.monotonic() < until:
            time.sleep(0.05)
        found = compare(self.client, self.log, states, self.sender.acknowledged)
        catalog = catalog_differences(self.client, self.subscriptions)
        drift = found.drift + listing_drift(self.client, self.subscriptions, states)
        return Outcome(found.lost + catalog, found.phantom, drift, found.examples)

    def _unlisted(self, states: Any) -> int:
        differences = listing_drift(self.client, self.subscriptions, states)
        return differences + catalog_differences(self.client, self.subscriptions)

    def found(self) -> set[Item]:
        """Everything that Redis holds of the visitors."""
        return set(found_items(self.client, self.settings.shards))

    def records_in(self, topic: str) -> int:
        """How many records a topic has."""
        partitions = [TopicPartition(topic, shard) for shard in range(self.settings.shards)]
        return sum(self.log.length(partition) for partition in partitions)

    def close(self) -> None:
        """End everything that was started."""
        for process in self.processes:
            process.kill()
        self.sender.producer.close()
        self.log.close()


def recreate_topics(settings: CoreSettings, names: Iterable[str] = ALL) -> None:
    """Give the case topics without any record."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers, "log_level": 0})
    names = set(names)

    def are_gone() -> bool:
        """Delete what there is: brokers learn of topics one after another, so the first look may not show them all."""
        existing = names & set(admin.list_topics(timeout=20).topics)
        for future in admin.delete_topics(sorted(existing)).values() if existing else ():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:  # deleted, and still shown
                    raise
        return not existing

    eventually(are_gone, 30)
    TopicAdmin(settings).create_missing()
