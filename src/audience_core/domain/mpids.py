"""How an MPID stands in the names of Redis keys.

mParticle's are signed 64-bit numbers, whose nineteen digits are most of a key, and a key is a third of what a visitor
takes. In base 64 they are eleven characters. Any other MPID keeps its own letters, behind a colon.
"""

from binascii import a2b_base64, b2a_base64

_BYTES = 8
_PACKED = 11
_LEAST, _MOST = -(2**63), 2**63 - 1
_RAW = ":"


def pack_mpid(mpid: str) -> str:
    """Name of an MPID; different for different ones."""
    try:
        number = int(mpid)
    except ValueError:
        return _RAW + mpid
    if not _LEAST <= number <= _MOST or str(number) != mpid:
        return _RAW + mpid
    return b2a_base64(number.to_bytes(_BYTES, "big", signed=True))[:_PACKED].decode()


def unpack_mpid(name: str) -> str:
    """Inverse of pack_mpid."""
    if name.startswith(_RAW):
        return name[len(_RAW) :]
    return str(int.from_bytes(a2b_base64(name + "="), "big", signed=True))
