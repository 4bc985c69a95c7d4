"""Gives each service its own Kafka user, with the rights that it needs and no others.

Connects as an administrator, by AUDIENCE_KAFKA_BOOTSTRAP_SERVERS and AUDIENCE_KAFKA_OPTIONS, and reads the password of
each user from a file of that name in a folder. May be run again: passwords are set anew, missing rights are added, and
no right is taken away.

Example: python deploy/security/kafka_users.py --passwords /run/secrets/kafka
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.admin._scram import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from audience_core.kafka.client import options
from audience_core.settings import CoreSettings, load
from audience_core.topics import CHANGES, COUNTS, DEAD_LETTERS, ERASURES, SUBSCRIPTIONS, TOPICS

_ITERATIONS = 8192
_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Rights:
    """What a service may do. To describe a topic comes with each right on it."""

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    """topics whose partitions and settings it looks at"""
    groups: tuple[str, ...] = ()
    """consumer groups; only the worker joins one, but every consumer asks for the coordinator of its name"""
    creates_topics: bool = False


ALL = tuple(topic.name for topic in TOPICS)
RIGHTS = {
    # the subscriptions too: a message about one is applied to its newest state
    "gateway": Rights(
        reads=(SUBSCRIPTIONS,), writes=(CHANGES, SUBSCRIPTIONS, DEAD_LETTERS), groups=("ingest-gateway",)
    ),
    "worker": Rights(
        reads=(CHANGES,), writes=(COUNTS, DEAD_LETTERS, ERASURES), checks=ALL, groups=("membership-worker",)
    ),
    "indexer": Rights(
        # writes a subscription's newest state behind an older one that came late
        reads=(SUBSCRIPTIONS, COUNTS, CHANGES),
        writes=(SUBSCRIPTIONS,),
        checks=ALL,
        groups=("audience-indexer", "audience-indexer-watch"),
    ),
    # erasures, and dead letters that are replayed from the console
    "api": Rights(reads=(DEAD_LETTERS,), writes=(CHANGES, SUBSCRIPTIONS, DEAD_LETTERS), groups=("audience-dlq",)),
    # a person with `audience-stream dlq` and `status`, and the job that makes the topics
    "operator": Rights(
        reads=(DEAD_LETTERS, COUNTS, CHANGES),
        writes=(CHANGES, SUBSCRIPTIONS),
        checks=ALL,
        groups=("audience-dlq", "audience-status"),
        creates_topics=True,
    ),
}


def bindings(user: str, rights: Rights) -> list[AclBinding]:
    """The ACLs of a user."""
    wanted = [(ResourceType.TOPIC, topic, AclOperation.READ) for topic in rights.reads]
    wanted += [(ResourceType.TOPIC, topic, AclOperation.WRITE) for topic in rights.writes]
    for topic in rights.checks:
        wanted += [
            (ResourceType.TOPIC, topic, AclOperation.DESCRIBE),
            (ResourceType.TOPIC, topic, AclOperation.DESCRIBE_CONFIGS),
        ]
    wanted += [(ResourceType.GROUP, group, AclOperation.READ) for group in rights.groups]
    if rights.creates_topics:
        wanted += [(ResourceType.TOPIC, topic, AclOperation.CREATE) for topic in ALL]
    return [
        AclBinding(kind, name, ResourcePatternType.LITERAL, f"User:{user}", "*", operation, AclPermissionType.ALLOW)
        for kind, name, operation in wanted
    ]


def grant(client: AdminClient, passwords: dict[str, str]) -> int:
    """Create the users and their ACLs; return how many ACLs there are. Raises KafkaException."""
    scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, _ITERATIONS)
    upserts: list[UserScramCredentialAlteration] = [
        UserScramCredentialUpsertion(user, scram, word.encode()) for user, word in passwords.items()
    ]
    for done in client.alter_user_scram_credentials(upserts, request_timeout=_TIMEOUT_S).values():
        done.result()
    acls = [binding for user in passwords for binding in bindings(user, RIGHTS[user])]
    for created in client.create_acls(acls, request_timeout=_TIMEOUT_S).values():
        created.result()
    return len(acls)


def main(
    passwords: Annotated[
        Path | None, typer.Option(help="folder with a file for each user, holding its password")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="print the rights as JSON and change nothing")] = False,
) -> None:
    """Create the services' Kafka users (SCRAM-SHA-512) and their ACLs.

    Example: python deploy/security/kafka_users.py --passwords /run/secrets/kafka
    """
    if show or passwords is None:
        typer.echo(json.dumps({user: rights.__dict__ for user, rights in RIGHTS.items()}, indent=2))
        raise typer.Exit(0 if show else 2)
    missing = [user for user in RIGHTS if not (passwords / user).is_file()]
    if missing:
        typer.echo(f"{passwords} has no file {', '.join(missing)}", err=True)
        raise typer.Exit(2)
    words = {user: (passwords / user).read_text().strip() for user in RIGHTS}
    count = grant(AdminClient(options(load(CoreSettings), "rights")), words)
    typer.echo(f"{len(words)} users, {count} ACLs", file=sys.stderr)


if __name__ == "__main__":
    typer.run(main)
