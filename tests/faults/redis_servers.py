"""Redis servers that can be killed, frozen, restored, clustered and failed over. All on loopback."""

import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from audience_stream.embedded import EmbeddedRedis, free_port
from tests.pipeline.running import eventually

_SLOTS = 16_384


class RedisServer:
    """One server on a port that it keeps over restarts; it saves only when told to."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.folder = folder / f"redis-{self.port}"
        self.folder.mkdir()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"redis://{self.address}/0"
        self.client: Any = redis.Redis(port=self.port, decode_responses=True, socket_timeout=20)
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start with what the folder's dump holds, and wait until it answers."""
        binary = EmbeddedRedis.binary()
        base = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        with (self.folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen([binary, *base, *self._options], stdout=log, stderr=log)
        eventually(self._answers, 20)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop it in its tracks; connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def take_backup(self) -> Path:
        """Save a consistent snapshot, as RDB does in production, and return its file."""
        self.client.save()
        return Path(shutil.copy(self.folder / "dump.rdb", self.folder / "backup.rdb"))

    def come_back(self, dump: Path | None = None) -> None:
        """Start again with a backup, or with nothing."""
        (self.folder / "dump.rdb").unlink(missing_ok=True)
        if dump is not None:
            shutil.copy(dump, self.folder / "dump.rdb")
        self.start()

    def stop(self) -> None:
        """End it; also when it is frozen."""
        self.client.close()
        self.kill()


class RedisCluster:
    """Three masters that share the slots, and nothing else: a master that is gone stays gone."""

    def __init__(self, folder: Path) -> None:
        # Redis's own choice, the port + 10,000, may be a client's just now
        self._buses = [free_port() for _ in range(3)]
        self.masters = [
            RedisServer(folder, "--cluster-enabled", "yes", "--cluster-port", str(bus)) for bus in self._buses
        ]

    def start(self) -> None:
        """Start, share the slots, and wait until every master finds the cluster whole."""
        for master in self.masters:
            master.start()
        for n, master in enumerate(self.masters):
            slots = range(n * _SLOTS // 3, (n + 1) * _SLOTS // 3)
            master.client.execute_command("CLUSTER", "ADDSLOTSRANGE", slots[0], slots[-1])
            master.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        first, *others = zip(self.masters, self._buses, strict=True)
        for master, bus in others:
            first[0].client.execute_command("CLUSTER", "MEET", "127.0.0.1", master.port, bus)
        eventually(self._is_whole, 30)

    def _is_whole(self) -> bool:
        return all(_is_whole(master.client.execute_command("CLUSTER", "INFO")) for master in self.masters)

    @property
    def nodes(self) -> str:
        """What AUDIENCE_REDIS_NODES is set to."""
        return ",".join(master.address for master in self.masters)

    def client(self) -> Any:
        """A client that follows the slots."""
        return redis.RedisCluster(host="127.0.0.1", port=self.masters[0].port, decode_responses=True)

    def stop(self) -> None:
        """End every master."""
        for master in self.masters:
            master.stop()


def _is_whole(info: Any) -> bool:
    fields = info if isinstance(info, dict) else dict(line.split(":") for line in info.split("\r\n") if line)
    return bool(fields["cluster_state"] == "ok" and int(fields["cluster_known_nodes"]) == 3)


class Sentinels:
    """A master, a replica of it, and three Sentinels that agree on which is which."""

    NAME = "audiences"

    def __init__(self, folder: Path) -> None:
        self.master = RedisServer(folder)
        self.replica = RedisServer(folder, "--replicaof", "127.0.0.1", str(self.master.port))
        self._folder = folder
        self._sentinels: list[subprocess.Popen[bytes]] = []
        self._ports = [free_port() for _ in range(3)]

    def start(self) -> None:
        """Start all and wait until the Sentinels know the replica and one another."""
        self.master.start()
        self.replica.start()
        for port in self._ports:
            config = self._folder / f"sentinel-{port}.conf"
            config.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {self._folder}\n"
                f"sentinel monitor {self.NAME} 127.0.0.1 {self.master.port} 2\n"
                f"sentinel down-after-milliseconds {self.NAME} 1000\n"
                f"sentinel failover-timeout {self.NAME} 10000\n"
            )
            with (self._folder / f"sentinel-{port}.log").open("ab") as log:
                command = [EmbeddedRedis.binary(), str(config), "--sentinel"]
                self._sentinels.append(subprocess.Popen(command, stdout=log, stderr=log))
        eventually(lambda: all(self._knows_all(port) for port in self._ports), 30)

    def _knows_all(self, port: int) -> bool:
        try:
            with redis.Redis(port=port, decode_responses=True, socket_timeout=2) as client:
                state: dict[str, Any] = client.sentinel_master(self.NAME)
                return bool(state["num-slaves"] == 1 and state["num-other-sentinels"] == 2)
        except redis.RedisError:
            return False

    @property
    def nodes(self) -> str:
        """What AUDIENCE_REDIS_NODES is set to."""
        return ",".join(f"127.0.0.1:{port}" for port in self._ports)

    def stop(self) -> None:
        """End everything."""
        for sentinel in self._sentinels:
            sentinel.kill()
            sentinel.wait()
        self.replica.stop()
        self.master.stop()


def is_role(server: RedisServer, role: str) -> Callable[[], bool]:
    """Condition to wait for: the server answers and has the role, master or slave."""

    def check() -> bool:
        try:
            return bool(server.client.role()[0] == role)
        except redis.RedisError:
            return False

    return check


def in_step(master: RedisServer, replica: RedisServer) -> None:
    """Wait until the replica has everything."""
    until = time.monotonic() + 20
    while int(master.client.execute_command("WAIT", 1, 1000)) < 1 or not _linked(replica):
        assert time.monotonic() < until, "the replica does not follow"


def _linked(replica: RedisServer) -> bool:
    return bool(replica.client.info("replication").get("master_link_status") == "up")
