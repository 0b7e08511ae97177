"""How large a run is: as published, or small enough to prove in two minutes that everything still runs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    rounds: int
    seconds: int
    drain: int
    slow_drain: int
    whole_rate: int
    whole_seconds: int
    sockets: int
    many_sockets: int
    stream_rate: int
    stream_sockets: int
    idle: int
    changes: int
    pending: int
    finished: int
    snapshot_seconds: int


FULL = Sizes(
    rounds=5, seconds=5, drain=100_000, slow_drain=5_000, whole_rate=5_000, whole_seconds=60, sockets=1_000, many_sockets=10_000,
    stream_rate=1_000, stream_sockets=100, idle=200, changes=500, pending=1_000_000, finished=5_000_000, snapshot_seconds=60,
)
SMOKE = Sizes(
    rounds=1, seconds=1, drain=2_000, slow_drain=100, whole_rate=200, whole_seconds=2, sockets=20, many_sockets=50, stream_rate=50,
    stream_sockets=5, idle=10, changes=10, pending=5_000, finished=5_000, snapshot_seconds=3,
)
