"""Membership changes to Avro by hand, for they are nearly all that is written.

A record of two audiences takes fastavro 6 µs, and this less than 2 µs. A test compares the two byte for byte. What the
records of a message share is written once, and numbers and changes that repeat are kept, within bounds.
"""

from collections.abc import Sequence
from functools import lru_cache

from audience_core.domain.records import MembershipAction

Change = tuple[int, int, MembershipAction]
"""(audience id, epoch, action)"""
_KEPT_NUMBERS = 4096
_KEPT_CHANGES = 65_536
_ACTIONS: dict[MembershipAction, bytes] = {"ENTER": b"\x00", "EXIT": b"\x02"}
"""Their places in the enum, as Avro writes numbers"""


class ChangeWriter:
    """Writes a MembershipChange for each profile of one message. Raises ValueError of a number beyond 64 bits."""

    __slots__ = ("_before", "_between", "account")

    def __init__(self, framing: bytes, account: str, occurred_at: int, received_at: int, request_id: str) -> None:
        """`framing`: what stands before a record's body."""
        self.account = account
        self._before = _before(framing, account)
        self._between = _long(occurred_at) + _long(received_at) + _text(request_id)

    def write(self, mpid: bytes, identities: Sequence[str], changes: Sequence[Change]) -> bytes:
        """The record of a profile. `mpid` is in UTF-8."""
        parts = [self._before, _number(len(mpid)), mpid, self._between]
        if identities:
            parts.append(_number(len(identities)))
            parts += map(_text, identities)
        parts.append(b"\x00")
        if changes:
            parts.append(_number(len(changes)))
            parts += [_change(change) for change in changes]
        parts.append(b"\x00")
        return b"".join(parts)


def _long(number: int) -> bytes:
    """Zigzag, seven bits a byte, the lowest ones first."""
    if not -(2**63) <= number < 2**63:
        raise ValueError("a number beyond 64 bits")
    left = number << 1 if number >= 0 else (-number << 1) - 1
    if left < 1 << 14:
        return _varint(left)
    # of times only the lowest bits differ: what is above stays among those that are kept
    return bytes((left & 0x7F | 0x80, left >> 7 & 0x7F | 0x80)) + _varint(left >> 14)


@lru_cache(_KEPT_NUMBERS)
def _varint(left: int) -> bytes:
    written = bytearray()
    while left > 0x7F:  # noqa: PLR2004 - seven bits
        written.append(left & 0x7F | 0x80)
        left >>= 7
    written.append(left)
    return bytes(written)


_number = lru_cache(_KEPT_NUMBERS)(_long)


@lru_cache(_KEPT_NUMBERS)
def _before(framing: bytes, account: str) -> bytes:
    return framing + _text(account)


def _text(text: str) -> bytes:
    data = text.encode()
    return _number(len(data)) + data


@lru_cache(_KEPT_CHANGES)
def _change(change: Change) -> bytes:
    audience_id, epoch, action = change
    return _long(audience_id) + _long(epoch) + _ACTIONS[action]
