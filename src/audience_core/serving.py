"""How the HTTP services listen to the network: TLS of their own, or a proxy before them whose word is taken."""

from typing import Any

from audience_core.errors import SettingsError
from audience_core.settings import CoreSettings


def network_options(settings: CoreSettings) -> dict[str, Any]:
    """uvicorn's options for TLS and for proxies. Raises SettingsError when half of a certificate is named."""
    certificate, key = settings.tls_certificate, settings.tls_key
    trusted: dict[str, Any] = {"proxy_headers": True, "forwarded_allow_ips": settings.trusted_proxies}
    if certificate is None and key is None:
        return trusted
    if certificate is None or key is None:
        raise SettingsError("AUDIENCE_TLS_CERTIFICATE and AUDIENCE_TLS_KEY go together: set both, or neither")
    for variable, path in (("AUDIENCE_TLS_CERTIFICATE", certificate), ("AUDIENCE_TLS_KEY", key)):
        if not path.is_file():
            raise SettingsError(f"{variable} names {path}, which is no file")
    return {**trusted, "ssl_certfile": str(certificate), "ssl_keyfile": str(key)}
