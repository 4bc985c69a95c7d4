"""Bodies of the control plane's requests and answers."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from audience_core.domain.partitioning import ACCOUNT_PATTERN
from segment_api.health import ConnectorHealth

Name = Annotated[str, Field(min_length=1, max_length=255)]


class AccountRequest(BaseModel):
    """An account or environment of AB Tasty."""

    id: str = Field(pattern=f"^(?:{ACCOUNT_PATTERN.pattern})$", description="1 to 64 letters, digits, `_`, `-`")
    name: Name


class ConnectorRequest(BaseModel):
    """One integration of an account."""

    provider: Literal["mparticle"]
    name: Name
    partner: str = Field("", max_length=255, description="partner of the segments' rows; empty = mparticle")


class Account(BaseModel):
    """An account; the time is ISO-8601."""

    id: str
    name: str
    created_at: str


class Accounts(BaseModel):
    """All accounts, ordered by id."""

    accounts: list[Account]


class Connector(BaseModel):
    """A connector; the time is ISO-8601."""

    id: str
    provider: str
    name: str
    partner: str
    created_at: str


class ConnectorWithHealth(Connector):
    """A connector, and whether it is heard from."""

    health: ConnectorHealth


class Connectors(BaseModel):
    """Connectors of an account, oldest first."""

    connectors: list[ConnectorWithHealth]


class ApiKey(BaseModel):
    """An API key without its secret; the times are ISO-8601. A rotated key works until `expires_at`."""

    id: str
    status: Literal["active", "revoked"]
    created_at: str
    revoked_at: str | None
    expires_at: str | None = Field(description="a rotated key works until then")
    last_used_at: str | None = Field(description="when a message last came with it; null = never")


class ApiKeys(BaseModel):
    """API keys of an account, oldest first."""

    api_keys: list[ApiKey]


class NewKey(BaseModel):
    """A new API key: the only answer that ever holds the secret."""

    id: str
    secret: str
