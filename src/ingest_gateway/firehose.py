"""The Firehose messages as mParticle writes them (docs/protocol.md): tolerant where senders differ, strict inside.

Unknown fields are ignored, numbers and digit strings stand for one another, null means absent.

The models say what is taken. Of membership messages, which are nearly all, the functions at the end take what mParticle
usually writes without asking a model; whatever looks different goes through the models. A test compares the two.
"""

from typing import Annotated, Any, Literal, NamedTuple, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from audience_core.domain.partitioning import is_mpid
from ingest_gateway.registration import API_KEY_SETTING, EPOCH_SETTING

MessageType = Literal[
    "module_registration_request",
    "audience_subscription_request",
    "audience_membership_change_request",
    "dsr_processing_request",
    "event_processing_request",
]
MESSAGE_TYPES: frozenset[str] = frozenset(MessageType.__args__)  # type: ignore[attr-defined]
AudienceAction = Literal["add", "delete", "attribute_update"]
_ACTIONS: tuple[str, ...] = AudienceAction.__args__  # type: ignore[attr-defined]
Encoding = Literal["raw", "md5", "sha1", "sha256"]
_ENCODINGS: tuple[str, ...] = Encoding.__args__  # type: ignore[attr-defined]
_MAX_ID = 256
_LEAST, _MOST = -(2**31), 2**31 - 1


def _integer(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a boolean is no number")  # noqa: TRY004 - pydantic takes ValueError
    if isinstance(value, float):
        if value != value or abs(value) > 2**63:  # noqa: PLR0124 - NaN, and what no id or time can be
            raise ValueError("not a whole number")
        return int(value)
    return value


def _text(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _request_id(value: object) -> object:
    """A UUID usually; it goes along with every record, so a text that is far longer is cut."""
    text = _text(value)
    return text[:_MAX_ID] if isinstance(text, str) else text


def _settings(value: object) -> object:
    """Values that are no scalars say nothing; null entries are absent."""
    if not isinstance(value, dict):
        return {} if value is None else value
    return {str(k): _text(v) for k, v in value.items() if isinstance(v, str | int | float)}


def _list(value: object) -> object:
    return [] if value is None else value


def _mpid(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a boolean is no MPID")  # noqa: TRY004 - pydantic takes ValueError
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str) and value and not is_mpid(value):
        raise ValueError("longer than 256 characters, or with control characters")
    return value


Integer = Annotated[int, BeforeValidator(_integer)]
JavaInt = Annotated[int, BeforeValidator(_integer), Field(ge=_LEAST, le=_MOST)]
Text = Annotated[str, BeforeValidator(_text)]
RequestId = Annotated[str, BeforeValidator(_request_id)]
Settings = Annotated[dict[str, str], BeforeValidator(_settings)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class Account(_Wire):
    account_settings: Settings = Field(default_factory=dict)


class Message(_Wire):
    """What every message has. `timestamp_ms`: milliseconds since the epoch."""

    id: RequestId | None = None
    timestamp_ms: Annotated[Integer | None, Field()] = None
    account: Account | None = None

    @property
    def api_key(self) -> str | None:
        """The customer's API key, or None."""
        return (self.account.account_settings.get(API_KEY_SETTING) or None) if self.account else None


class MembershipMessage(Message):
    """Profiles stay raw: each is judged alone."""

    user_profiles: Annotated[list[Any], BeforeValidator(_list)] = Field(default_factory=list)


class SubscriptionMessage(Message):
    audience_id: JavaInt
    audience_name: Text | None = None
    audience_description: Text | None = None
    audience_subscription_settings: Settings = Field(default_factory=dict)
    action: Literal["add", "update", "remove"]

    @property
    def size(self) -> int:
        """Characters of all of its texts."""
        settings = sum(len(name) + len(value) for name, value in self.audience_subscription_settings.items())
        return len(self.audience_name or "") + len(self.audience_description or "") + settings


class ErasureMessage(Message):
    """`submitted_time` comes in three shapes and decides nothing, so it is not read."""

    subject_request_id: RequestId | None = None
    subject_request_type: Literal["erasure"] | None = None
    subject_identities: Any = None
    extensions: Any = None


class Identity(_Wire):
    type: str
    encoding: Encoding
    value: Text


class AudienceItem(_Wire):
    audience_id: JavaInt
    audience_name: Text | None = None
    audience_subscription_settings: Settings = Field(default_factory=dict)
    action: AudienceAction


class Profile(_Wire):
    """Audiences and identities stay raw: a bad one harms none of its neighbours."""

    mpid: Annotated[str | None, BeforeValidator(_mpid)] = None
    audiences: Annotated[list[Any], BeforeValidator(_list)] = Field(default_factory=list)
    user_identities: Any = None
    device_identities: Any = None
    partner_identities: Any = None


def explain(error: ValidationError) -> str:
    """Fields and rules that an input broke, without its values."""
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, p['loc'])) or 'value'}: {p['type']}" for p in problems[:5])


class Membership(NamedTuple):
    """A membership message. Profiles stay raw: each is judged alone."""

    id: str | None
    timestamp_ms: int | None
    api_key: str | None
    user_profiles: list[Any]


# `type(…) is` and not isinstance: a bool is an int, and takes the other way


def read_membership(raw: dict[str, Any]) -> Membership:
    """As MembershipMessage has it. Raises ValidationError."""
    request_id, time, profiles, account = map(raw.get, ("id", "timestamp_ms", "user_profiles", "account"))
    settings = account.get("account_settings") if type(account) is dict else None
    if type(request_id) is str and type(time) is int and type(profiles) is list and type(settings) is dict:
        api_key = settings.get(API_KEY_SETTING)
        if type(api_key) is str and len(settings) == 1:
            return Membership(request_id[:_MAX_ID], time, api_key or None, profiles)
    message = MembershipMessage.model_validate(raw)
    return Membership(message.id, message.timestamp_ms, message.api_key, message.user_profiles)


def read_profile(raw: Any) -> tuple[str | None, list[Any]]:
    """(MPID, audiences) as Profile has them: a profile that this takes is a dictionary. Raises ValidationError."""
    if type(raw) is dict:
        mpid, audiences = raw.get("mpid"), raw.get("audiences")
        if type(mpid) is str and type(audiences) is list and is_mpid(mpid):
            return mpid, audiences
    profile = Profile.model_validate(raw)
    return profile.mpid, profile.audiences


def read_item(raw: Any) -> tuple[int, AudienceAction, str]:
    """(audience id, action, echoed epoch or an empty text) as AudienceItem has them. Raises ValidationError."""
    if type(raw) is dict:
        audience_id, name, action = raw.get("audience_id"), raw.get("audience_name"), raw.get("action")
        settings = raw.get("audience_subscription_settings")
        echoed = settings.get(EPOCH_SETTING) if type(settings) is dict and len(settings) == 1 else None
        if (
            (type(audience_id) is int and _LEAST <= audience_id <= _MOST)
            and (type(action) is str and action in _ACTIONS)
            and (type(name) is str or name is None)
            and (type(echoed) is str or settings is None)
        ):
            return audience_id, cast(AudienceAction, action), echoed or ""
    item = AudienceItem.model_validate(raw)
    return item.audience_id, item.action, item.audience_subscription_settings.get(EPOCH_SETTING, "")


def read_identity(raw: Any) -> tuple[str, Encoding, str]:
    """(type, encoding, value) as Identity has them. Raises ValidationError."""
    if type(raw) is dict:
        kind, encoding, value = raw.get("type"), raw.get("encoding"), raw.get("value")
        if type(kind) is str and type(encoding) is str and encoding in _ENCODINGS and type(value) is str:
            return kind, cast(Encoding, encoding), value
    identity = Identity.model_validate(raw)
    return identity.type, identity.encoding, identity.value
