"""The peers that are measured in their own process: each prints one line of JSON."""

import json
import os
import subprocess

from .servers import PEERS, node

# No measurement of a peer takes longer.
PATIENCE = 600


class Peer:
    """A job queue that is used in-process, behind a command."""

    def __init__(self, name, command, scenarios, is_slow=False, needs_redis=False):
        self.name, self.command, self.scenarios = name, command, scenarios
        # 100,000 jobs would take it minutes.
        self.is_slow, self.needs_redis = is_slow, needs_redis

    def is_there(self):
        return os.path.exists(self.command[0]) and all(os.path.exists(part) for part in self.command[1:])

    def measure(self, scenario, environment, *arguments):
        command = [*map(str, self.command), scenario, *map(str, arguments)]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=PATIENCE)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode or not lines:
            raise RuntimeError(f"{self.name} {scenario}: {(done.stderr or done.stdout).strip()[-2000:]}")
        return json.loads(lines[-1])


def peers():
    """All of them, with the scenarios that each takes part in."""
    rust = PEERS / "rust" / "target" / "release"
    all_of_them = ["submit", "bulk", "drain", "idle"]
    return [
        Peer("graphile-worker", [node(), PEERS / "node" / "graphile-worker.mjs"], all_of_them),
        Peer("graphile_worker (Rust)", [rust / "graphile_worker"], [*all_of_them, "drain_own"]),
        Peer("apalis-postgres", [rust / "apalis_postgres"], all_of_them),
        Peer("pg-boss", [node(), PEERS / "node" / "pg-boss.mjs"], all_of_them),
        Peer("procrastinate", [PEERS / "python" / ".venv" / "bin" / "python", PEERS / "python" / "procrastinate_peer.py"],
             all_of_them, is_slow=True),
        Peer("BullMQ on Redis", [node(), PEERS / "node" / "bullmq.mjs"], all_of_them, needs_redis=True),
    ]
