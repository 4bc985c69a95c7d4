"""Writes `dashboards/*.json`. `--check` writes nothing and fails when a file is not what it would be."""

import argparse
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

import audiences
import gateway
import path
import workers
from frame import framed

FOLDER = Path(__file__).parent / "dashboards"


def built() -> dict[str, str]:
    """File name → content."""
    dashboards = (
        framed("audience-path", "Audience path", "A change on its way from mParticle to the listing.", path.content()),
        framed(
            "audience-gateway", "Audience gateway", "Requests, time and content.", gateway.content(), "audience-gateway"
        ),
        framed(
            "audience-workers", "Audience workers", "Throughput, lag, seconds.", workers.content(), "audience-worker"
        ),
        framed("audience-audiences", "Audiences", "What there is and who reads it.", audiences.content()),
    )
    encoder = JSONEncoder(sort_keys=True, indent=2)
    return {f"{model.uid}.json": f"{encoder.encode(model)}\n" for model in (board.build() for board in dashboards)}


def main() -> int:
    """Write or check; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python deploy/grafana/generate.py --check")
    parser.add_argument("--check", action="store_true", help="only compare")
    check = parser.parse_args().check
    stale = [
        name for name, text in built().items() if not (FOLDER / name).exists() or (FOLDER / name).read_text() != text
    ]
    if check:
        for name in stale:
            print(f"{name} is stale: run `make dashboards`", file=sys.stderr)  # noqa: T201 - its output
        return 1 if stale else 0
    for name, text in built().items():
        (FOLDER / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
