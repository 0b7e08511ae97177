"""Writes docs/benchmarks.md from the results of a run."""

import statistics

from .rows import ROWS, median, of, reached, spread
from .servers import HERE

# What a person has to say about it: what bounds the rows that are not reached.
REMARKS = HERE / "remarks.md"

PEER_NOTES = {
    "graphile-worker": "In-process, Node. Deletes a job when it is done; announces nothing to watchers; no API over the network.",
    "graphile_worker (Rust)": "In-process, Rust. As graphile-worker, whose tables it shares.",
    "apalis-postgres": "In-process, Rust. Keeps finished jobs; takes and ends them in batches; announces inserts only.",
    "pg-boss": "In-process, Node. Keeps finished jobs for a while; announces inserts only.",
    "procrastinate": "In-process, Python. Keeps finished jobs and an event for each change; drained with 5,000 jobs.",
    "BullMQ on Redis": "In-process, Node. Redis flushes its log once a second: what was acknowledged in the last second may be lost. "
                       "Every other contender has its data on the disk before it answers.",
    "PostGraphile": "A GraphQL API over a table like ours, without its triggers: it runs no jobs and announces nothing here.",
}


def number(value):
    if value is None:
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:,.2f}"


def counted(rounds):
    return "one round" if rounds == 1 else f"{rounds} rounds"


def other_counts(results):
    """Scenarios that were measured in fewer rounds, or in more, than the others."""
    of_each = {name: max(map(len, measured.values())) for name, measured in results["results"].items() if measured}
    others = [f"`{name}` in {counted(rounds)}" for name, rounds in of_each.items() if rounds != results["rounds"]]
    return f" ({', '.join(others)})" if others else ""


def cell(values):
    if not values:
        return "–"
    low, high = spread(values)
    return f"{number(median(values))} ({number(low)} to {number(high)})" if len(values) > 1 else number(values[0])


def reach_table(results):
    lines = ["| what | seen: median (lowest to highest) | reach | |", "|---|---|---|---|"]
    for row in ROWS:
        value, target, is_reached = reached(results, row)
        if value is None:
            lines.append(f"| {row.what} | not measured | {row.reach} | |")
            continue
        mark = "reached" if is_reached else "**not reached**"
        lines.append(f"| {row.what} | {cell(value)} {row.unit} | {row.reach}{target} | {mark} |")
    return "\n".join(lines)


# What stands in place of a figure that a contender has not, as it does another thing.
INSTEAD = {"jobs_per_second": "requests_per_second", "started_ms_p50": "seen_running_ms_p50"}


def rate_table(results, scenario, key):
    measured = results["results"].get(scenario, {})
    if not measured:
        return "Not measured in this run.\n"
    values = {name: of(results, scenario, name, key) or of(results, scenario, name, INSTEAD[key]) for name in measured}
    less_is_better = "_ms_" in key
    names = sorted(values, key=lambda name: (median(values[name]) or 0) * (1 if less_is_better else -1))
    lines = ["| | median (lowest to highest) | cores of its process |", "|---|---|---|"]
    for name in names:
        cores = of(results, scenario, name, "server_cores") or of(results, scenario, name, "peer_cores")
        lines.append(f"| {name} | {cell(values[name])} | {cell(cores)} |")
    return "\n".join(lines) + "\n"


def generator_share(results):
    shares = [
        figures["generator_cores"] / results["machine"]["cores"]
        for measured in results["results"].values() for rounds in measured.values() for figures in rounds
        if "generator_cores" in figures
    ]
    if not shares:
        return "was not measured"
    return f"took {statistics.median(shares):.0%} of the machine's cores in the median measurement and {max(shares):.0%} at most"


def job_by_id(results):
    slowest, where = None, ""
    for scenario, measured in results["results"].items():
        for name, rounds in measured.items():
            values = [figures["job_by_id_ms_p99"] for figures in rounds if "job_by_id_ms_p99" in figures]
            if values and (slowest is None or median(values) > slowest):
                slowest, where = median(values), scenario
    if slowest is None:
        return ""
    return (f"During each of these loads a `job(id)` query by a client that had nothing to do with it was repeated every 50 ms. "
            f"Its slowest 99th in a hundred, during `{where}`, was {number(slowest)} ms; the reach is 50 ms.\n")


def honest_load(results):
    loads = results.get("loads") or [0]
    busy = max(loads[0], results["machine"]["load_before"][0])
    if busy <= 0.5:
        return ""
    return (f"> **This machine was not quiet.** Its load was {busy:.1f} before the first measurement: other work may have taken part of both "
            f"cores, and of different measurements a different part. Read the ratios with care and the figures with more.\n\n")


def written(results):
    machine, versions = results["machine"], results["versions"]
    failures = "".join(f"- {failure['scenario']}, {failure['name']}: {failure['error']}\n" for failure in results["failures"])
    peers = "\n".join(
        f"| {name} | {versions[name]['version']} | `{versions[name]['settings']}` | {PEER_NOTES.get(name.split(',')[0], '')} |"
        for name in sorted(versions)
    )
    sections = [
        ("Submit, one a request", "submit", "jobs_per_second", "Jobs a second. jobql and PostGraphile over HTTP from 64 connections; the "
         "others by 64 calls at once inside their own process, with no network, no parsing and no answer to write."),
        ("Submit, 1,000 a request", "bulk", "jobs_per_second", "Jobs a second, two requests or calls at once."),
        ("Drain", "drain", "jobs_per_second", f"Jobs a second of a backlog of {results['sizes']['drain']:,} that do nothing, one process. jobql "
         "keeps every job and announces every change."),
        ("Idle", "idle", "started_ms_p50", "Milliseconds from the submit to the start of the handler, median of each round, one job at a time. "
         "jobql's is submitted over HTTP. Its native worker runs in the generator's process, as the peers' do, beside the server. Where it is "
         "handled over HTTP, the server posts the job to the generator. The row jobql is what a subscriber sees: the event RUNNING over a "
         "WebSocket, which comes after the handler has started in the server."),
    ]
    return f"""# Benchmarks

What jobql does beside its peers, on one machine and one database server with the same durable settings.

{honest_load(results)}![Rates of jobql and its peers](benchmarks.svg)

{reach_table(results)}

{job_by_id(results)}
{REMARKS.read_text().strip()}

## How it was measured

```sh
{results['command']}
```

on {results['at']}, at commit {machine['commit']}: {counted(results['rounds'])}{other_counts(results)}; in each, every contender of a scenario in turn, beginning with
another one each time, on a fresh database after a checkpoint. Nothing is warmed but what a scenario loads. {machine['cores']} cores
({machine['cpu']}), Linux {machine['kernel']}, PostgreSQL {machine['postgres']}{', Redis ' + machine['redis'] if machine['redis'] else ''}, {machine['jobql']}.
Server, database, load generator and peers share the cores. The load generator of what goes over HTTP is `jobql bench`: one thread, which
{generator_share(results)}. In-process peers have none: their loops are their load.

PostgreSQL has `fsync`, `full_page_writes`, `synchronous_commit` and, for the instants of commits, `track_commit_timestamp` on, and the settings of jobql's embedded cluster; all connect over
its Unix socket. So what any of them has acknowledged survives a crash, but for Redis, which flushes each second.

| contender | version | settings | what it does and does not |
|---|---|---|---|
{peers}

""" + "\n".join(f"## {title}\n\n{text}\n\n{rate_table(results, scenario, key)}" for title, scenario, key, text in sections) + ("\n## Failed\n\n" + failures if failures else "")
