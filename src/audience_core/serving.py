"""How the HTTP services keep their ports: TLS of their own, unless a proxy before them has it."""

from typing import Any

from audience_core.errors import SettingsError
from audience_core.settings import CoreSettings


def tls_options(settings: CoreSettings) -> dict[str, Any]:
    """uvicorn's options for TLS. Raises SettingsError when half of a certificate is named."""
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None and key is None:
        return {}
    if certificate is None or key is None:
        raise SettingsError("AUDIENCE_TLS_CERTIFICATE and AUDIENCE_TLS_KEY go together: set both, or neither")
    for variable, path in (("AUDIENCE_TLS_CERTIFICATE", certificate), ("AUDIENCE_TLS_KEY", key)):
        if not path.is_file():
            raise SettingsError(f"{variable} names {path}, which is no file")
    return {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}
