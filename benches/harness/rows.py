"""The rows of the table: what is aimed at, and from which figures it is told."""

import statistics
from dataclasses import dataclass
from typing import Callable

JOBQL = "jobql"


def of(results, scenario, name, key):
    rounds = results["results"].get(scenario, {}).get(name, [])
    return [figures[key] for figures in rounds if figures.get(key) is not None]


def median(values):
    return statistics.median(values) if values else None


def spread(values):
    return min(values), max(values)


def best(results, scenario, key, without=()):
    """The peer with the highest median, and that."""
    measured = results["results"].get(scenario, {})
    peers = {name: median(of(results, scenario, name, key)) for name in measured if not name.startswith(JOBQL) and name not in without}
    peers = {name: value for name, value in peers.items() if value is not None}
    return max(peers.items(), key=lambda item: item[1]) if peers else (None, None)


@dataclass(frozen=True)
class Row:
    what: str
    unit: str
    reach: str
    # The values of all rounds.
    values: Callable
    # What they are compared with, as a value and a name.
    target: Callable
    more: bool = True


def figure(scenario, key, name=JOBQL):
    return lambda results: of(results, scenario, name, key)


def fixed(value):
    return lambda results: (value, "")


def times(factor, scenario, key, name):
    def target(results):
        other = median(of(results, scenario, name, key))
        return (other and other * factor), name
    return target


def times_best(factor, scenario, key, without=()):
    def target(results):
        name, value = best(results, scenario, key, without)
        return (value and value * factor), name
    return target


def share_of(scenario, key, factor):
    return times(factor, scenario, key, JOBQL)


SUBMIT, NOOP, NATIVE = "jobs_per_second", "jobql, no-op mutation", "jobql, native worker"
REDIS = "BullMQ on Redis"
ROWS = [
    Row("submit over HTTP", "jobs/s", "0.6 x the no-op mutation", figure("submit", SUBMIT), times(0.6, "submit", "requests_per_second", NOOP)),
    Row("submit over HTTP", "jobs/s", "5 x PostGraphile's create", figure("submit", SUBMIT), times(5, "submit", "requests_per_second", "PostGraphile")),
    Row("submit over HTTP", "jobs/s", "6 x the best in-process enqueue on PostgreSQL", figure("submit", SUBMIT),
        times_best(6, "submit", SUBMIT, (REDIS, "PostGraphile"))),
    Row("submit 1,000 a request", "jobs/s", "1.0 x graphile-worker's addJobs", figure("bulk", SUBMIT), times(1, "bulk", SUBMIT, "graphile-worker")),
    Row("drain", "jobs/s", "1.0 x the best on PostgreSQL", figure("drain", SUBMIT), times_best(1, "drain", SUBMIT, (REDIS,))),
    Row("whole path: rate", "jobs/s", "the 5,000 that are submitted", figure("whole", SUBMIT), lambda results: (results["sizes"]["whole_rate"] * 0.99, "")),
    Row("whole path: submit to result, p99", "ms", "250", figure("whole", "submit_to_result_ms_p99"), fixed(250), more=False),
    Row("whole path: results that did not come", "", "0", figure("whole", "missing"), fixed(0), more=False),
    Row("idle: submit over HTTP to handler started", "ms", "3", figure("idle", "started_ms_p50", NATIVE), fixed(3), more=False),
    Row("idle: submit to RUNNING seen", "ms", "5", figure("idle", "seen_running_ms_p50"), fixed(5), more=False),
    Row("1,000 sockets: commit to client, p99", "ms", "2", figure("fanout", "after_commit_ms_p99"), fixed(2), more=False),
    Row("1,000 sockets: all told of one change of all, from its first commit", "ms", "60", figure("fanout", "all_after_commit_ms"), fixed(60), more=False),
    Row("10,000 sockets: commit to client, p99", "ms", "100", figure("subscribers", "after_commit_ms_p99"), fixed(100), more=False),
    Row("memory of a socket", "kB", "20", figure("subscribers", "server_kb_per_socket"), fixed(20), more=False),
    Row("100 sockets on one client at 1,000 changes/s, p99", "ms", "100", figure("stream", "told_ms_p99"), fixed(100), more=False),
    Row("queuePosition at a million pending, p99", "ms", "2", figure("position", "answer_ms_p99"), fixed(2), more=False),
    Row("pages of 50, any depth, 64 connections", "pages/s", "2 x PostGraphile's first page", figure("page", "requests_per_second"),
        times(2, "page", "requests_per_second", "PostGraphile")),
    Row("page of 50, one client, p99", "ms", "5", figure("page", "alone_answer_ms_p99"), fixed(5), more=False),
    Row("drain at a million pending", "jobs/s", "0.5 x an empty table's", figure("claim_pending", SUBMIT), share_of("claim_empty", SUBMIT, 0.5)),
    Row("drain behind 5 million finished", "jobs/s", "0.5 x an empty table's", figure("claim_finished", SUBMIT), share_of("claim_empty", SUBMIT, 0.5)),
    Row("drain under a snapshot of 60 s", "jobs/s", "0.25 x an empty table's", figure("claim_snapshot", SUBMIT), share_of("claim_empty", SUBMIT, 0.25)),
    Row("drain after the snapshot", "jobs/s", "0.5 x an empty table's", figure("claim_after_snapshot", SUBMIT), share_of("claim_empty", SUBMIT, 0.5)),
    Row("memory of serve at rest", "MB", "60", figure("whole", "server_mb_at_rest"), fixed(60), more=False),
    Row("memory of serve in the whole path", "MB", "250", figure("whole", "server_peak_mb"), fixed(250), more=False),
]


def reached(results, row):
    """The values of all rounds, what the reach comes to, and whether the median is there."""
    values = row.values(results)
    target, name = row.target(results)
    if not values or target is None:
        return None, "", False
    found = median(values)
    comes_to = f" = {target:,.0f} ({name})" if name else ""
    return values, comes_to, found >= target if row.more else found <= target
