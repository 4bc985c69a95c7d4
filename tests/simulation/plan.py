"""What a seed lets happen: messages of mParticle, and faults. Each item can be left out without changing the others."""

from dataclasses import dataclass
from random import Random
from typing import Literal

ACCOUNT = "demo"
AUDIENCES = (1, 2, 3)
MPIDS = ("v1", "v2", "v3", "v4", "v5")
EMAILS = ("a@example.com", "b@example.com")
SHARDS = 2
STEPS = 700

FaultKind = Literal[
    "kill worker",
    "stop worker",
    "start worker",
    "stall",
    "rebalance",
    "save redis",
    "restore redis",
    "empty redis",
    "redis away",
    "kafka away",
    "kill indexer",
    "crash gateway",
    "time passes",
    "compact",
]
# how many of each a seed may hold at most; none is as likely as any number up to it
_FAULTS: dict[FaultKind, int] = {
    "kill worker": 3,
    "stop worker": 1,
    "start worker": 2,
    "stall": 4,
    "rebalance": 4,
    "save redis": 3,
    "restore redis": 4,
    "empty redis": 2,
    "redis away": 2,
    "kafka away": 1,
    "kill indexer": 2,
    "crash gateway": 2,
    "time passes": 3,
    "compact": 1,
}


@dataclass(frozen=True)
class Change:
    """One membership message. `jitter_ms` moves its time against its sending; `copies` are sent by themselves."""

    at: int
    mpids: tuple[str, ...]
    changes: tuple[tuple[int, str], ...]
    emails: tuple[str, ...]
    jitter_ms: int
    echo: bool
    delay: int
    copies: int


@dataclass(frozen=True)
class Subscribe:
    """One subscription message; those of one audience follow one another. `late_copy`: steps until it comes again."""

    at: int
    audience: int
    action: str
    late_copy: int | None


@dataclass(frozen=True)
class Erase:
    at: int
    mpid: str | None
    email: str | None


@dataclass(frozen=True)
class Poison:
    """A record that nobody can read."""

    at: int
    shard: int


@dataclass(frozen=True)
class Fault:
    """Happens at a step; `luck` decides what it hits and for how long."""

    at: int
    kind: FaultKind
    luck: float


Item = Change | Subscribe | Erase | Poison | Fault


@dataclass(frozen=True)
class Plan:
    seed: int
    items: tuple[Item, ...]
    counts_get_lost: bool
    """whether records with counts may get lost; the indexer's comparison, every so often, mends that"""


def make_plan(seed: int) -> Plan:
    """Draw a plan."""
    random = Random(seed)
    items: list[Item] = []
    for audience in AUDIENCES:
        for at in sorted(random.randrange(STEPS) for _ in range(random.choice((1, 1, 2, 4, 6)))):
            late = random.randrange(STEPS // 2) if random.random() < 0.2 else None
            items.append(Subscribe(at, audience, random.choice(("add", "add", "remove", "update")), late))
    items += [_change(random) for _ in range(random.randrange(8, 28))]
    for _ in range(random.choice((0, 0, 1, 2))):
        erased_by_mpid = random.random() < 0.5
        mpid, email = (random.choice(MPIDS), None) if erased_by_mpid else (None, random.choice(EMAILS))
        items.append(Erase(random.randrange(STEPS), mpid, email))
    items += [Poison(random.randrange(STEPS), random.randrange(SHARDS)) for _ in range(random.choice((0, 0, 0, 1)))]
    for kind, most in _FAULTS.items():
        if random.random() < 0.6:
            items += [Fault(random.randrange(STEPS), kind, random.random()) for _ in range(random.randint(1, most))]
    return Plan(seed, tuple(sorted(items, key=lambda item: item.at)), random.random() < 0.5)


def _change(random: Random) -> Change:
    return Change(
        at=random.randrange(STEPS),
        mpids=tuple(random.sample(MPIDS, random.choice((1, 1, 2)))),
        changes=tuple(
            (audience, random.choice(("add", "add", "delete")))
            for audience in random.sample(AUDIENCES, random.choice((1, 1, 2)))
        ),
        emails=tuple(random.sample(EMAILS, random.choice((0, 0, 1)))),
        jitter_ms=random.choice((0, 0, -1, -500, -5000, -90_000, 5000)),
        echo=random.random() < 0.7,
        delay=random.choice((0, 0, 0, 20, 200)),
        copies=random.choice((0, 0, 0, 1, 2)),
    )
