"""Apache Kafka with SASL_SSL and an authorizer, Redis with TLS and ACLs, and the certificates for both."""

import secrets
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import redis
import trustme
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from audience_stream.embedded import EmbeddedRedis, free_port
from tests.pipeline.kafka_cluster import artifacts

ROOT = Path(__file__).parents[2]
USERS = ("gateway", "worker", "indexer", "api", "operator")
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"


@dataclass
class Certificates:
    """An authority of the tests' own, and a certificate of it for this machine."""

    folder: Path
    authority: trustme.CA = field(default_factory=trustme.CA)

    def __post_init__(self) -> None:
        issued = self.authority.issue_cert("127.0.0.1", "localhost")
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        self.ca, self.certificate, self.key = (self.folder / name for name in ("ca.pem", "server.pem", "server.key"))
        self.authority.cert_pem.write_to_path(self.ca)
        self.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        # Kafka reads PKCS#8 alone
        self.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.both = self.folder / "both.pem"
        self.both.write_bytes(self.key.read_bytes() + self.certificate.read_bytes())


def passwords(folder: Path, *more: str) -> dict[str, str]:
    """A password for each user, in files as secrets are mounted."""
    folder.mkdir()
    words = {user: secrets.token_urlsafe(24) for user in (*USERS, *more)}
    for user, word in words.items():
        (folder / user).write_text(word)
    return words


def kafka_options(user: str, password: str, certificates: Certificates) -> dict[str, Any]:
    """librdkafka's options of a user."""
    return {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": user,
        "sasl.password": password,
        "ssl.ca.location": str(certificates.ca),
    }


class SecureKafka:
    """One node that lets in nobody without a name, and allows nothing that no ACL allows."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        self._certificates = certificates
        self._log, self._config = folder / "kafka.log", folder / "server.properties"
        self.administrator = secrets.token_urlsafe(24)
        port, controller = free_port(), free_port()
        self.address = f"127.0.0.1:{port}"
        login = f'{_SCRAM} required username="administrator" password="{self.administrator}";'
        lines = [
            "process.roles=broker,controller",
            "node.id=1",
            f"controller.quorum.voters=1@127.0.0.1:{controller}",
            "controller.listener.names=CONTROLLER",
            f"listeners=CLIENTS://{self.address},CONTROLLER://127.0.0.1:{controller}",
            f"advertised.listeners=CLIENTS://{self.address}",
            "listener.security.protocol.map=CLIENTS:SASL_SSL,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name=CLIENTS",
            "sasl.enabled.mechanisms=SCRAM-SHA-512",
            "sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512",
            f"listener.name.clients.scram-sha-512.sasl.jaas.config={login}",
            "ssl.keystore.type=PEM",
            f"ssl.keystore.location={certificates.both}",
            "ssl.truststore.type=PEM",
            f"ssl.truststore.location={certificates.ca}",
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            # the controller's own port: in a real cluster a network of its own, or TLS with certificates of brokers
            "super.users=User:administrator;User:ANONYMOUS",
            f"log.dirs={folder / 'logs'}",
            "offsets.topic.replication.factor=1",
            "offsets.topic.num.partitions=4",
            "group.initial.rebalance.delay.ms=0",
            "auto.create.topics.enable=false",
        ]
        self._config.write_text("\n".join(lines))
        self._process: subprocess.Popen[bytes] | None = None

    def options(self) -> dict[str, Any]:
        """librdkafka's options of the administrator."""
        return kafka_options("administrator", self.administrator, self._certificates)

    def __enter__(self) -> Self:
        java = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", artifacts()]
        scram = f"SCRAM-SHA-512=[name=administrator,password={self.administrator}]"
        storage = ["kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", str(self._config)]
        subprocess.run([*java, *storage, "--add-scram", scram], check=True, capture_output=True, timeout=90)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([*java, "kafka.Kafka", str(self._config)], stdout=log, stderr=log)
        client = AdminClient({"bootstrap.servers": self.address, "log_level": 0, **self.options()})
        until = time.monotonic() + 90
        while True:
            try:
                client.list_topics(timeout=1)
            except KafkaException:
                if self._process.poll() is not None or time.monotonic() > until:
                    self.__exit__()
                    raise RuntimeError(f"Apache Kafka did not start:\n{self._log.read_text()[-3000:]}") from None
            else:
                return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)


class SecureRedis:
    """A Redis that speaks TLS only and knows the users of deploy/security/redis_users.py."""

    def __init__(self, folder: Path, certificates: Certificates, secrets_folder: Path) -> None:
        self._certificates = certificates
        self.port = free_port()
        users = folder / "users.acl"
        command = [sys.executable, str(ROOT / "deploy/security/redis_users.py"), "--passwords", str(secrets_folder)]
        users.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
        self._log = folder / "redis.log"
        self._command = [
            shutil.which("redis-server") or EmbeddedRedis.binary(),
            *("--port", "0", "--tls-port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)),
            *("--tls-cert-file", str(certificates.certificate), "--tls-key-file", str(certificates.key)),
            *("--tls-ca-cert-file", str(certificates.ca), "--tls-auth-clients", "no", "--aclfile", str(users)),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, user: str, password: str) -> str:
        """Address for a user."""
        return f"rediss://{user}:{password}@127.0.0.1:{self.port}/0?ssl_ca_certs={self._certificates.ca}"

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        until = time.monotonic() + 20
        while True:
            try:
                with redis.Redis.from_url(self.url("nobody", "x")) as client:
                    client.ping()
            except redis.AuthenticationError:
                return self
            except redis.ConnectionError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"Redis did not start:\n{self._log.read_text()[-2000:]}") from None
                time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
