"""The partition function, once: the producer, the read side and the tests all call it."""

import re
from zlib import crc32

ACCOUNT_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
MPID_MAX_CHARS = 256


def visitor_key(account: str, mpid: str) -> bytes:
    """Key of a changes record. An account id has no colon, so the key is unambiguous."""
    return f"{account}:{mpid}".encode()


def audience_key(account: str, audience_id: int) -> bytes:
    """Key of a subscriptions record, and what places a counts record."""
    return f"{account}:{audience_id}".encode()


def count_key(account: str, audience_id: int, epoch: int, shard: int) -> bytes:
    """Key of a counts record: one per audience, epoch and shard, so compaction keeps each shard's latest."""
    return f"{account}:{audience_id}:{epoch}:{shard}".encode()


def shard_of(key: bytes, shards: int) -> int:
    """Partition of a key: CRC-32 (IEEE) modulo the number of shards."""
    return crc32(key) % shards


def is_account(text: str) -> bool:
    """Whether a text can be an account id: 1 to 64 letters, digits, `_`, `-`."""
    return ACCOUNT_PATTERN.fullmatch(text) is not None


def is_mpid(text: str) -> bool:
    """Whether a text can be an MPID: 1 to 256 characters, any Unicode but controls and lone surrogates."""
    return 0 < len(text) <= MPID_MAX_CHARS and text.isprintable()
