"""What this module asks of mParticle when it is registered."""

from typing import Any

API_KEY_SETTING = "apiKey"
EPOCH_SETTING = "audienceEpoch"

# What an erasure may name (docs/protocol.md), in the words of a profile.
_USER_IDENTITIES = ("customer", "email")
_DEVICE_IDENTITIES = (
    "android_id",
    "google_advertising_id",
    "ios_advertising_id",
    "ios_vendor_id",
    "fire_advertising_id",
    "microsoft_advertising_id",
    "microsoft_publisher_id",
    "roku_advertising_id",
    "roku_publisher_id",
)

_API_KEY = {
    "type": "text",
    "id": API_KEY_SETTING,
    "name": "API Key",
    "description": "The API key generated in AB Tasty under Integrations › API key.",
    "visible": True,
    "required": True,
    "confidential": True,
}
_EPOCH = {
    "type": "text",
    "id": EPOCH_SETTING,
    "name": "Subscription epoch",
    "description": "Set by AB Tasty; tells changes of a former subscription from those of the present one.",
    "visible": False,
    "required": False,
    "confidential": False,
}


def registration(*, identity_erasure: bool) -> dict[str, Any]:
    """Fields of a module_registration_response. Identities are asked for only if erasure needs them, as SHA-256, and
    none is required: a required one would filter out the users who have none."""
    permissions: dict[str, Any] = {"allow_access_mpid": True}
    fields: dict[str, Any] = {
        "sdk_version": "3.2.0",
        "name": "AB Tasty",
        "version": "1.0",
        "description": "Target visitors in AB Tasty with the audiences made in mParticle, in real time.",
        "permissions": permissions,
        "audience_processing_registration": {
            "account_settings": [_API_KEY],
            "audience_subscription_settings": [_EPOCH],
        },
    }
    if identity_erasure:
        permissions["user_identities"] = [_identity(kind) for kind in _USER_IDENTITIES]
        permissions["device_identities"] = [_identity(kind) for kind in _DEVICE_IDENTITIES]
        fields["dsr_processing_registration"] = {
            "account_settings": [_API_KEY],
            "supported_dsr_types": ["erasure"],
            "domain": "abtasty.com",
        }
    return fields


def _identity(kind: str) -> dict[str, Any]:
    return {"type": kind, "encoding": "sha256", "required": False}
