"""Identities become HMACs before they leave the gateway; a raw identity goes nowhere.

mParticle lower-cases a value before it hashes it (contract §3.3). A raw value is therefore known by its SHA-256, and an
erasure that names the raw value can find the MD5 and SHA-1 forms too.
"""

import hashlib
import hmac
from base64 import urlsafe_b64encode

# An erasure names identities by OpenDSR's words, a profile by mParticle's (contract §3.4 and §3.3).
_DSR_TYPES = {
    "controller_customer_id": "customer",
    "android_advertising_id": "google_advertising_id",
}
_HMAC_BYTES = 16  # 128 bits: no collision among all of a customer's identities, at half of the memory


def profile_type(dsr_type: str) -> str:
    """Name that a profile gives to the identity type of an erasure."""
    return _DSR_TYPES.get(dsr_type, dsr_type)


def hmac_of_profile_identity(pepper: bytes, account: str, kind: str, encoding: str, value: str) -> str:
    """HMAC of one identity of a profile. `encoding` is raw, md5, sha1 or sha256."""
    text = value.strip().lower()
    if encoding == "raw":
        return _hmac(pepper, account, kind, "sha256", hashlib.sha256(text.encode()).hexdigest())
    return _hmac(pepper, account, kind, encoding, text)


def hmacs_of_erased_identity(pepper: bytes, account: str, kind: str, encoding: str, value: str) -> list[str]:
    """Return every HMAC under which a profile may have come with this identity."""
    if encoding != "raw":
        return [hmac_of_profile_identity(pepper, account, kind, encoding, value)]
    text = value.strip().lower().encode()
    forms = {
        "sha256": hashlib.sha256(text).hexdigest(),
        "sha1": hashlib.sha1(text, usedforsecurity=False).hexdigest(),
        "md5": hashlib.md5(text, usedforsecurity=False).hexdigest(),
    }
    return [_hmac(pepper, account, kind, form, digest) for form, digest in forms.items()]


def _hmac(pepper: bytes, account: str, kind: str, form: str, digest: str) -> str:
    message = f"identity:{account}:{kind}:{form}:{digest}".encode()
    return urlsafe_b64encode(hmac.digest(pepper, message, "sha256")[:_HMAC_BYTES]).rstrip(b"=").decode()
