"""Each peer's packages in an environment of its own, from its lock: they do not agree on one confluent-kafka.

    python -m benchmarks.peers.environments

installs what is missing under `.venv-peers/`. Exit code 1 when a peer can't be installed.
"""

import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.report import NotMeasured, console

ROOT = Path(__file__).parents[2]
PEERS = {"FastStream": "faststream", "Quix Streams": "quixstreams", "sentry-arroyo": "arroyo"}
"""name → its module, lock and environment"""


def interpreter(peer: str) -> str:
    """The Python that runs this module of `benchmarks.peers`, with what its lock names. Raises
    NotMeasured when that can't be installed."""
    lock = Path(__file__).parent / f"{peer}.lock"
    folder = ROOT / ".venv-peers" / peer
    python, installed = folder / "bin" / "python", folder / "installed.lock"
    if installed.exists() and installed.read_bytes() == lock.read_bytes():
        return str(python)
    console.print(f"installing {peer} under {folder}")
    venv.create(folder, clear=True, with_pip=True)
    options = ["--quiet", "--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:"]
    done = subprocess.run(
        [str(python), "-m", "pip", "install", *options, "-r", str(lock)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise NotMeasured(f"its packages can't be installed: {reason}")
    installed.write_bytes(lock.read_bytes())
    return str(python)


def main() -> int:
    """Install all; return the exit code."""
    failed = 0
    for name, peer in PEERS.items():
        try:
            console.print(f"{name}: {interpreter(peer)}")
        except NotMeasured as error:
            failed += 1
            console.print(f"{name}: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
