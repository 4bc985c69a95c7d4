"""Settings of the segment API."""

from pydantic import Field, SecretStr

from audience_core.errors import SettingsError
from audience_core.settings import CoreSettings


class ApiSettings(CoreSettings):
    """What the segment API needs beside the core's settings."""

    api_port: int = Field(8081, ge=0, le=65535, description="port of the segment and control API; 0 = any free one")
    gateway_url: str = Field("", description="where the console reaches the gateway; empty = no test messages")
    control_body_limit: int = Field(1_000_000, gt=0, description="largest body of a control request in bytes, else 413")
    admin_token: SecretStr = Field(
        SecretStr(""),
        description="bearer token of the control API; required, no default. Several, with a space between them, are "
        "all valid: a new one takes the place of an old one without a gap",
    )

    def required_admin_tokens(self) -> list[str]:
        """Return the tokens, or raise SettingsError: an empty one would open the control API to everybody."""
        tokens = self.admin_token.get_secret_value().split()
        if not tokens:
            raise SettingsError("AUDIENCE_ADMIN_TOKEN is not set; set a long random secret")
        return tokens
