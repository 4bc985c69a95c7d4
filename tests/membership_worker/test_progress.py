"""When a worker counts as dead, and what it says that it waits for."""

from audience_core.errors import KafkaUnavailable
from membership_worker.progress import Progress

STUCK_AFTER = 60.0


class Log:
    """Ends of the shards' logs; `away` as Kafka can be."""

    def __init__(self) -> None:
        self.ends = {0: 0, 1: 0}
        self.leaderless: set[int] = set()
        self.away = False
        self.now = 1000.0

    def __call__(self, shards: list[int]) -> dict[int, int]:
        if self.away:
            raise KafkaUnavailable("no broker answers")
        return {shard: self.ends[shard] for shard in shards if shard not in self.leaderless}


def started() -> tuple[Log, Progress]:
    log = Log()
    progress = Progress(STUCK_AFTER, log, lambda: log.now)
    progress.joined(member=True)
    for shard in log.ends:
        progress.stands(shard, 0)
    return log, progress


def passes(log: Log, progress: Progress, seconds: float) -> list[str]:
    """Let time pass with the loop turning and the probe asking every ten seconds; return its last answer."""
    answer: list[str] = []
    for _ in range(int(seconds / 10)):
        log.now += 10
        progress.turn()
        answer = progress.dead()
    return answer


def test_a_shard_with_unread_records_that_stands_still_is_named_while_the_others_move() -> None:
    log, progress = started()
    log.ends = {0: 5, 1: 1000}
    for offset in range(20):
        progress.stands(1, offset)
        answer = passes(log, progress, 10)
    assert [line for line in answer if "shard 0 has unread records and has stood at 0" in line] == answer != []


def test_a_shard_without_a_leader_is_no_reason_to_restart_and_hides_no_other_one() -> None:
    log, progress = started()
    log.ends, log.leaderless = {0: 5, 1: 5}, {0}
    answer = passes(log, progress, 300)
    assert [line for line in answer if line.startswith("shard 1 has unread records")] == answer != []


def test_an_idle_shard_is_no_reason_to_restart() -> None:
    log, progress = started()
    assert passes(log, progress, 3600) == []


def test_a_record_that_comes_after_a_long_silence_has_its_time() -> None:
    log, progress = started()
    passes(log, progress, 3600)
    log.ends = {0: 1, 1: 0}
    assert progress.dead() == []
    progress.stands(0, 1)
    assert passes(log, progress, 600) == []


def test_a_shard_that_is_assigned_but_never_read_is_named() -> None:
    log, progress = started()
    progress.stands(0, None)
    log.ends = {0: 5, 1: 0}
    assert progress.not_ready() == ["shards assigned, but not read yet: [0]"]
    assert "shard 0" in passes(log, progress, 150)[0]


def test_a_loop_that_hangs_is_dead_whatever_it_waits_for() -> None:
    log, progress = started()
    progress.waits_for("Redis failed")
    log.now += STUCK_AFTER + 1
    assert "has not come round" in progress.dead()[0]


def test_waiting_for_redis_is_not_death_however_long_and_after_it_every_shard_has_its_time_again() -> None:
    log, progress = started()
    log.ends = {0: 5, 1: 5}
    progress.waits_for("Redis failed while applying a batch")
    assert passes(log, progress, 3600) == []
    assert progress.not_ready() == ["Redis failed while applying a batch"]
    progress.waits_for(None)
    assert progress.not_ready() == []
    assert passes(log, progress, STUCK_AFTER) == []
    assert len(passes(log, progress, 2 * STUCK_AFTER)) == 2


def test_a_kafka_that_does_not_answer_is_not_death() -> None:
    log, progress = started()
    log.ends = {0: 5, 1: 5}
    log.away = True
    assert passes(log, progress, 3600) == []


def test_a_shard_that_was_taken_away_is_forgotten() -> None:
    log, progress = started()
    log.ends = {0: 5, 1: 0}
    progress.gone([0])
    assert passes(log, progress, 3600) == []


def test_a_worker_outside_of_its_group_is_not_ready() -> None:
    _, progress = started()
    progress.joined(member=False)
    assert progress.not_ready() == ["no assignment from the group yet"]
