"""A process that appends to a spool's file and says which request is on disk; for tests that kill it.

`python -m tests.spool.appender FOLDER [LIMIT]`: LIMIT bytes are the most that any file may take, as on a full disk.
"""

import resource
import sys
from pathlib import Path

from audience_core.errors import SpoolUnavailable
from audience_core.kafka.producer import Outgoing
from ingest_gateway.spool_file import claim


def request(number: int) -> list[Outgoing]:
    """Three records, recognisable and of a size that varies."""
    return [Outgoing("t", n, f"{number}".encode(), bytes([n]) * (number * 37 % 900)) for n in range(3)]


def main() -> None:
    file = claim(Path(sys.argv[1]))
    if len(sys.argv) > 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
    number = file.records // 3
    while True:
        try:
            file.write(request(number))
        except SpoolUnavailable:
            sys.stdout.write("full\n")
            break
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        number += 1
    # what is held can still be read and dropped, and then there is room again
    held = file.read(0, 10)
    file.write([], drop_to=held[-1][0])
    sys.stdout.write(f"dropped {len(held)}\n")


if __name__ == "__main__":
    main()
