"""Writes Redis's ACL file: a user for each service, with the keys and commands that it needs and no others.

Reads the password of each user from a file of that name in a folder; the ACL file holds their SHA-256 only.

Example: python deploy/security/redis_users.py --passwords /run/secrets/redis > users.acl
"""

import hashlib
from pathlib import Path
from typing import Annotated

import typer

# Reading, writing and scripts; nothing that lists all keys, stops the server, or looks at other clients.
_COMMANDS = (
    "-@all +@read +@write +@connection +@transaction +@scripting "
    "-@dangerous -script -function -scan -randomkey +script|load"
)
# KEYS is dangerous to Redis itself, INFO tells nothing of any key: the indexer reports memory, verify scans
RIGHTS = {
    "gateway": "%R~keys* %R~accounts* ~catalog* ~activity:* ~erasures:* %R~shards",
    "worker": "~{s*}:* ~shards ~erasures:*",
    "indexer": "~index* ~catalog* ~history:* %R~{s*}:c %R~{s*}:o %R~shards %R~accounts* %R~activity:* +info",
    "api": "~accounts* ~keys* ~segments:* ~erasures:* ~console:* %R~{s*}:* %R~index* %R~catalog* %R~history:* "
    "%R~activity:* %R~shards +scan",
    "operator": "%R~* +scan +info",
}


def acl_file(passwords: dict[str, str], administrator: str) -> str:
    """Lines of an ACL file: nobody without a name, an administrator, the services."""
    lines = ["user default off", f"user administrator on #{_digest(administrator)} ~* &* +@all"]
    lines += [
        f"user {user} on #{_digest(passwords[user])} resetchannels {_COMMANDS} {rights}"
        for user, rights in RIGHTS.items()
    ]
    return "\n".join(lines) + "\n"


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def main(
    passwords: Annotated[Path, typer.Option(help="folder with a file for each user, holding its password")],
) -> None:
    """Print Redis's ACL file (setting `aclfile`).

    Example: python deploy/security/redis_users.py --passwords /run/secrets/redis > users.acl
    """
    missing = [user for user in (*RIGHTS, "administrator") if not (passwords / user).is_file()]
    if missing:
        typer.echo(f"{passwords} has no file {', '.join(missing)}", err=True)
        raise typer.Exit(2)
    words = {user: (passwords / user).read_text().strip() for user in (*RIGHTS, "administrator")}
    typer.echo(acl_file(words, words["administrator"]), nl=False)


if __name__ == "__main__":
    typer.run(main)
