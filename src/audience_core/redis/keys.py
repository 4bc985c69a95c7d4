"""Names of every Redis key. All keys of a shard share the hash tag `{s<shard>}`, so one script may touch them all.

MPIDs stand in names packed (domain/mpids.py).
"""

from typing import NamedTuple

from audience_core.domain.mpids import pack_mpid

SHARD_COUNT = "shards"
API_KEYS = "keys"
API_KEYS_VERSION = "keys:version"
ACCOUNTS = "accounts"
CATALOG_VERSIONS = "catalog::versions"
INDEX_VERSION = "index::version"
ALL_MEMBERS = "{s*}:m:*"


def shard_prefix(shard: int) -> str:
    """`{s7}:`, what every key of a shard starts with."""
    return f"{{s{shard}}}:"


class VisitorKeys(NamedTuple):
    """The keys of one visitor."""

    members: str
    """SET of the audiences that the visitor is in"""
    guards: str
    """HASH member → signed time of its last change; field `r` is a recent received_at of the visitor (ADR 12)"""
    suppression: str
    """STRING: when the visitor was erased. While it lives, late changes of the visitor are dropped."""


def of_visitor(shard: int, account: str, mpid: str) -> VisitorKeys:
    """Return all keys of a visitor."""
    name = f"{account}:{pack_mpid(mpid)}"
    return VisitorKeys(f"{{s{shard}}}:m:{name}", f"{{s{shard}}}:v:{name}", f"{{s{shard}}}:x:{name}")


def counts(shard: int) -> str:
    """HASH account:member → number of MPIDs of this shard in it."""
    return f"{{s{shard}}}:c"


def offset(shard: int) -> str:
    """HASH topic (topic id), offset (next offset to apply), erased (received_at of the newest erasure)."""
    return f"{{s{shard}}}:o"


def receipts(shard: int) -> str:
    """LIST of JSON receipts of erasures that the worker has not published yet."""
    return f"{{s{shard}}}:r"


def erasure(account: str, request_id: str) -> str:
    """HASH what is known of an erasure: see redis/erasures.py."""
    return f"erasures:{account}:{request_id}"


def parse_members(key: str) -> tuple[int, str]:
    """(shard, account) of the key of a member set."""
    tag, _, rest = key.partition(":m:")
    return int(tag[2:-1]), rest.split(":", 1)[0]


def catalog(account: str) -> str:
    """HASH audience id → JSON of the subscription's state."""
    return f"catalog:{account}"


def index(account: str) -> str:
    """ZSET of the populated audiences of an account, scored by count."""
    return f"index:{account}"


def index_counts(account: str) -> str:
    """HASH audience id → JSON of count and time, also of those that are empty."""
    return f"index:{account}:counts"


def connectors(account: str) -> str:
    """HASH connector id → JSON."""
    return f"accounts:{account}:connectors"


def account_keys(account: str) -> str:
    """HASH API key id → JSON without the secret."""
    return f"accounts:{account}:keys"


def console_session(digest: str) -> str:
    """HASH of one signed-in browser, under the digest of its cookie."""
    return f"console:session:{digest}"


def console_attempts(digest: str) -> str:
    """STRING with a short life: failed sign-ins from one address, under the address's digest."""
    return f"console:attempts:{digest}"


def account_members(account: str) -> str:
    """Pattern of an account's member sets, in every shard. No sign of an account id means anything in a pattern."""
    return f"{{s*}}:m:{account}:*"


def segments(account: str) -> str:
    """HASH segment id → JSON of a saved segment."""
    return f"segments:{account}"


def activity(account: str) -> str:
    """HASH of what the gateway last heard of an account; times in ms."""
    return f"activity:{account}"


def activity_requests(account: str | None) -> str:
    """STREAM of an account's latest requests; None = of those that belong to no account."""
    return f"activity:{account or ''}:requests"


def activity_changes(account: str, audience_id: int, hour: int) -> str:
    """HASH `e<minute>` or `x<minute>` of an hour since the epoch → enters or exits received; expires after a day."""
    return f"activity:{account}:{audience_id}:{hour}"


def history(account: str, audience_id: int) -> str:
    """LIST `<minute since the epoch>:<count>`, the newest last, of minutes in which an audience's count changed."""
    return f"history:{account}:{audience_id}"
