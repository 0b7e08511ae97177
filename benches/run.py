#!/usr/bin/env python3
"""Measures jobql beside its peers, in turn, and writes docs/benchmarks.md and its chart.

    benches/run.py                        everything, five rounds (a good hour on a quiet machine; --rounds 2 takes half of one)
    benches/run.py --smoke                everything once at a tiny size; nothing is written to docs/
    benches/run.py --only submit,drain    these scenarios; with --add beside those that the results have already
    benches/run.py --render               docs/ again from the results that are there

Peers that are not installed are left out, and the document says so. `make bench` installs them.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import chart, document  # noqa: E402
from harness.contenders import peers  # noqa: E402
from harness.scenarios import SCENARIOS  # noqa: E402
from harness.servers import HERE, Postgres, Redis, node  # noqa: E402
from harness.sizes import FULL, SMOKE  # noqa: E402

ROOT = HERE.parent


class Run:
    """What the scenarios work with, and what they note."""

    def __init__(self, arguments, folder):
        self.sizes = SMOKE if arguments.smoke else FULL
        self.rounds = arguments.rounds or self.sizes.rounds
        self.folder, self.jobql, self.round = folder, arguments.jobql, 0
        self.results, self.versions, self.failures, self.loads = {}, {}, [], []
        self.postgres = Postgres(folder)
        self.peers = [] if arguments.no_peers else [peer for peer in peers() if peer.is_there()]
        self.has_postgraphile = not arguments.no_peers and node().exists()
        self.redis = None
        if any(peer.needs_redis for peer in self.peers):
            try:
                self.redis = Redis(folder)
            except FileNotFoundError:
                self.peers = [peer for peer in self.peers if not peer.needs_redis]

    @contextlib.contextmanager
    def running(self, server):
        try:
            yield server
        finally:
            server.close()

    def note(self, scenario, name, measure):
        self.say(f"{scenario}: {name} … ", end="")
        # Others' work on the machine, before this measurement adds its own.
        self.loads.append(os.getloadavg()[0])
        try:
            figures = measure()
        except (RuntimeError, subprocess.SubprocessError) as error:
            self.failures.append({"round": self.round, "scenario": scenario, "name": name, "error": str(error)[-500:]})
            print(f"failed: {error}", flush=True)
            return
        self.results.setdefault(scenario, {}).setdefault(name, []).append(figures)
        print(brief(figures), flush=True)

    def note_peer(self, scenario, peer, measure):
        def figures():
            told = measure()
            key = peer.name if scenario != "drain_own" else f"{peer.name}, settings of its own bench"
            self.versions[key] = {"version": told["version"], "settings": told["settings"]}
            return told["figures"]
        # The same jobs at other settings stand beside the others.
        name = peer.name if scenario != "drain_own" else f"{peer.name}, settings of its own bench"
        self.note("drain" if scenario == "drain_own" else scenario, name, figures)

    def say(self, text, end="\n"):
        print(f"[{time.strftime('%H:%M:%S')}] round {self.round + 1} of {self.rounds}, {text}", end=end, flush=True)

    def close(self):
        if self.redis:
            self.redis.close()
        self.postgres.close()


def brief(figures):
    names = ["jobs_per_second", "requests_per_second", "submit_to_result_ms_p99", "started_ms_p50", "seen_running_ms_p50",
             "told_ms_p99", "after_commit_ms_p99", "all_told_ms", "all_after_commit_ms", "answer_ms_p99", "server_kb_per_socket"]
    return ", ".join(f"{name} {figures[name]:,.1f}" for name in names if figures.get(name) is not None)


def machine(run):
    with open("/proc/cpuinfo") as lines:
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cores": os.cpu_count(), "cpu": models[0] if models else platform.machine(), "kernel": platform.release(),
        "postgres": run.postgres.version, "redis": run.redis.version if run.redis else None,
        "jobql": subprocess.run([run.jobql, "--version"], capture_output=True, text=True).stdout.strip(),
        "commit": subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip(),
        "load_before": run.load_before,
    }


def parsed():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="once, at a tiny size, into the results only")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--only", help="scenarios, separated by commas: " + ", ".join(SCENARIOS))
    parser.add_argument("--add", action="store_true", help="keep what the results have of other scenarios, measured at this commit")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--jobql", type=Path, default=ROOT / "target" / "release" / "jobql", help="the program")
    parser.add_argument("--results", type=Path, default=ROOT / "target" / "bench" / "results.json")
    parser.add_argument("--render", action="store_true", help="write docs/ from the results, and measure nothing")
    return parser.parse_args()


def main():
    arguments = parsed()
    if not arguments.render:
        measure(arguments)
    if arguments.smoke:
        return
    results = json.loads(arguments.results.read_text())
    (ROOT / "docs" / "benchmarks.svg").write_text(chart.drawn(results))
    (ROOT / "docs" / "benchmarks.md").write_text(document.written(results))
    print("wrote docs/benchmarks.md and docs/benchmarks.svg")


def measure(arguments):
    arguments.jobql = arguments.jobql.resolve()
    if not arguments.jobql.exists():
        raise SystemExit(f"{arguments.jobql} is not there: cargo build --release")
    wanted = arguments.only.split(",") if arguments.only else list(SCENARIOS)
    load_before = os.getloadavg()
    folder = tempfile.mkdtemp(prefix="jobql-bench-")
    run = Run(arguments, folder)
    run.load_before = load_before
    run.before = kept(arguments, run) if arguments.add else None
    try:
        for run.round in range(run.rounds):
            for name in wanted:
                SCENARIOS[name](run)
                save(arguments, run)
    finally:
        run.close()
        shutil.rmtree(folder, ignore_errors=True)
    if run.failures and arguments.smoke:
        raise SystemExit(f"{len(run.failures)} failed")


def command(arguments):
    """What was run, without the paths of this machine."""
    options = [f"--rounds {arguments.rounds}"] if arguments.rounds else []
    options += [f"--only {arguments.only}"] if arguments.only else []
    options += ["--add"] if arguments.add else []
    options += ["--no-peers"] if arguments.no_peers else []
    return " ".join(["benches/run.py", *options]) if options else "make bench"


def kept(arguments, run):
    """The results that are there, if they are of this commit."""
    before = json.loads(arguments.results.read_text())
    if before["machine"]["commit"] != machine(run)["commit"]:
        raise SystemExit(f"{arguments.results} is of commit {before['machine']['commit']}: nothing can be added to it")
    return before


def save(arguments, run):
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    results = {
        "machine": machine(run), "rounds": run.rounds, "sizes": run.sizes.__dict__, "results": run.results,
        "versions": run.versions, "failures": run.failures, "loads": run.loads,
        "command": command(arguments), "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }
    if before := run.before:
        results |= {
            "machine": before["machine"], "rounds": before["rounds"], "results": before["results"] | run.results,
            "versions": before["versions"] | run.versions, "failures": before["failures"] + run.failures,
            "loads": before["loads"] + run.loads, "command": before["command"] + "\n" + command(arguments),
        }
    arguments.results.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
