"""What is acknowledged stays on disk, whatever happens to the process, the file or the disk."""

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from audience_core.errors import PermanentError
from audience_core.kafka.producer import Outgoing
from ingest_gateway.spool_file import SpoolFile, claim, claim_left_behind
from tests.spool.appender import request


def appender(folder: Path, *limit: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.spool.appender", str(folder), *limit]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def held(file: SpoolFile) -> list[Outgoing]:
    """All that a file holds; one read is bounded."""
    found: list[tuple[int, Outgoing]] = []
    while window := file.read(found[-1][0] if found else 0, 1_000_000):
        found += window
    return [record for _, record in found]


def test_every_acknowledged_request_survives_kill_9_at_any_moment(tmp_path: Path) -> None:
    chooser = random.Random(5)
    acknowledged = -1
    for _ in range(6):
        process = appender(tmp_path)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chooser.uniform(0, 0.2))
        process.kill()
        said = process.communicate()[0].split("\n")
        acknowledged = max([acknowledged, *(int(line) for line in said[:-1] if line)])
    file = claim(tmp_path)
    records = held(file)
    # whole requests, in order; the last one may have been written without its acknowledgement being heard
    assert len(records) // 3 >= acknowledged + 1
    assert records == [record for number in range(len(records) // 3) for record in request(number)]
    assert file.records == len(records)
    file.close()


def test_a_log_cut_at_any_byte_holds_whole_requests_in_order(tmp_path: Path) -> None:
    written = tmp_path / "written"
    process = appender(written)
    assert process.stdout is not None
    for _ in range(40):
        process.stdout.readline()
    process.kill()
    process.communicate()
    log = (written / "spool-0.db-wal").read_bytes()
    chooser = random.Random(6)
    counts = set()
    for cut in [*chooser.sample(range(len(log)), 60), len(log)]:
        copied = tmp_path / "cut"
        shutil.copytree(written, copied)
        (copied / "spool-0.db-wal").write_bytes(log[:cut])
        file = claim(copied)
        records = held(file)
        file.close()
        shutil.rmtree(copied)
        assert records == [record for number in range(len(records) // 3) for record in request(number)]
        counts.add(len(records))
    assert max(counts) >= 120
    assert len(counts) > 10


def test_a_full_disk_is_an_error_and_neither_a_crash_nor_a_loss(tmp_path: Path) -> None:
    process = appender(tmp_path, "300000")
    said = process.communicate(timeout=60)[0].split()
    assert process.returncode == 0
    assert said[-3:] == ["full", "dropped", "10"]
    file = claim(tmp_path)
    assert file.records == 3 * (int(said[-4]) + 1) - 10
    file.close()


def test_two_processes_never_share_a_file_and_what_one_leaves_behind_is_adopted(tmp_path: Path) -> None:
    first = appender(tmp_path)
    assert first.stdout is not None
    first.stdout.readline()
    mine = claim(tmp_path)
    assert mine.records == 0
    assert list(claim_left_behind(tmp_path)) == []
    first.kill()
    first.communicate()
    [orphan] = claim_left_behind(tmp_path)
    assert orphan.records >= 3
    orphan.write([], drop_to=10**9)
    orphan.close(remove=True)
    mine.close()
    assert sorted(path.name for path in tmp_path.glob("*.db*")) == ["spool-1.db"]


def test_a_file_that_is_no_database_is_set_aside_and_kept(tmp_path: Path) -> None:
    (tmp_path / "spool-0.db").write_bytes(b"not a database, but somebody may want to look at it" * 100)
    file = claim(tmp_path)
    file.write(request(1))
    assert held(file) == request(1)
    file.close()
    [broken] = tmp_path.glob("*.broken*")
    assert broken.read_bytes().startswith(b"not a database")


def test_a_folder_that_cant_be_used_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PermanentError, match="AUDIENCE_SPOOL_DIR"):
        claim(tmp_path / "file")


def test_a_drained_file_gives_its_room_back_and_holds_no_record_any_more(tmp_path: Path) -> None:
    file = claim(tmp_path)
    file.write([Outgoing("t", 0, b"visitor-of-the-test", b"x" * 1000)] * 5000)
    file.write([], drop_to=10**9)
    file.shrink()
    left = b"".join(path.read_bytes() for path in tmp_path.glob("spool-0.db*"))
    file.close()
    assert len(left) < 100_000
    assert b"visitor-of-the-test" not in left


def test_a_record_that_waits_leaves_its_trace(tmp_path: Path) -> None:
    traced = Outgoing("t", 0, b"k", b"v", traceparent=b"00-1-2-01")
    file = claim(tmp_path)
    file.write([traced, traced._replace(key=b"l")])
    assert held(file) == [Outgoing("t", 0, b"k", b"v"), Outgoing("t", 0, b"l", b"v")]
    file.close()
