"""The container's health check: ask `/livez` of the service that is process 1. Quick: the standard library only.

Example: python -m audience_stream.healthcheck
"""

import http.client
import os
import sys
from pathlib import Path

PORTS = {
    "gateway": ("AUDIENCE_GATEWAY_PORT", 8080),
    "worker": ("AUDIENCE_METRICS_PORT", 9101),
    "indexer": ("AUDIENCE_METRICS_PORT", 9102),
    "api": ("AUDIENCE_API_PORT", 8081),
}
_TIMEOUT_S = 2.0


def service_of(command_line: bytes) -> str | None:
    """Name of the service that a process runs, by its command line as in /proc; None for any other command."""
    words = command_line.decode(errors="replace").rstrip("\0").split("\0")
    ours = [n for n, word in enumerate(words) if Path(word).name in ("audience-stream", "audience_stream")]
    command = words[ours[0] + 1 : ours[0] + 2] if ours else []
    return command[0] if command and command[0] in PORTS else None


def main(command_line: bytes) -> int:
    """0 when the service lives or none is run, else 1 with a line that says why."""
    if not command_line.strip(b"\0"):
        sys.stdout.write("process 1 is still being started\n")
        return 1
    service = service_of(command_line)
    if service is None:
        return 0
    variable, default = PORTS[service]
    port = int(os.environ.get(variable) or default)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
        connection.request("GET", "/livez")
        answer = connection.getresponse()
        said = answer.read().decode(errors="replace")
    except OSError as error:
        said, alive = f"no answer on port {port}: {error}", False
    else:
        alive = answer.status == http.client.OK
    sys.stdout.write(f"{service}: {said}\n")
    return 0 if alive else 1


if __name__ == "__main__":
    sys.exit(main(Path("/proc/1/cmdline").read_bytes()))
