"""How long the spool takes to make a request durable, by rate: `python -m tests.spool.measure_commits [FOLDER]`."""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from audience_core.kafka.producer import Outgoing
from ingest_gateway.spool import Spool
from ingest_gateway.spool_file import claim

RECORD = Outgoing("mparticle.membership-changes.v1", 3, b"demo:-1327484737295091692", b"x" * 220)


async def measure(folder: Path, rate: int, seconds: float) -> list[float]:
    """Milliseconds of each append at so many a second, sorted."""
    spool = Spool(claim(folder), 1_000_000_000)
    taken: list[float] = []

    async def append() -> None:
        started = time.perf_counter()
        await spool.append([RECORD])
        taken.append((time.perf_counter() - started) * 1000)

    tasks = []
    started = time.perf_counter()
    for n in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, started + n / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(append()))
    await asyncio.gather(*tasks)
    await spool.close()
    return sorted(taken)


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        for rate in (500, 2000, 5000):
            taken = asyncio.run(measure(Path(folder), rate, 5))
            figures = [f"{name} {taken[int(len(taken) * share)]:.2f}" for name, share in (("p50", 0.5), ("p99", 0.99))]
            sys.stdout.write(f"{rate} requests/s: {', '.join(figures)}, max {taken[-1]:.2f} ms\n")


if __name__ == "__main__":
    main()
