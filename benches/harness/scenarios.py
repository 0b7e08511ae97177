"""The scenarios: what is started for each, and what is asked of it.

Each is a function of the run that measures every contender once, in an order that turns with the round, and notes what
it found. A contender that fails is noted as failed and the run goes on.
"""

import json
import socket
import time
import uuid
from pathlib import Path

from .servers import Jobql, PostGraphile

SCENARIOS = {}
JOBQL = "jobql"
NOOP = "jobql, no-op mutation"
HANDLED, NATIVE = "jobql, handled over HTTP", "jobql, native worker"
POSTGRAPHILE = "PostGraphile"

PG_CREATE = """mutation Submit($input: CreateJobInput!) { createJob(input: $input) { job { id status } } }"""
PG_PAGE = """query ($kind: String!, $after: Cursor) { allJobs(first: 50, after: $after, orderBy: PRIMARY_KEY_DESC, condition: {kind: $kind}) {
  nodes { id clientId kind status displayName createdAt finishedAt } pageInfo { endCursor hasNextPage } } }"""


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


def fresh():
    return "bench_" + uuid.uuid4().hex[:12]


def in_turn(run, measurements):
    """Runs them, beginning with another one in each round, so that no one always has the warm or the cold place."""
    turn = run.round % len(measurements)
    for measure in measurements[turn:] + measurements[:turn]:
        measure()


def of_jobql(run, scenario, *arguments, slots=None, name=JOBQL, reads_commits=False):
    def measure():
        with run.postgres.database(fresh()) as database, run.running(Jobql(run.jobql, run.postgres, database, run.folder, slots)) as server:
            commits = ["--commits-from", server.database_url] if reads_commits else []
            run.note(scenario, name, lambda: server.bench(*arguments, *commits))
    return measure


def of_peers(run, scenario, arguments, only=None):
    """One measurement for each peer that takes part."""
    def measurement(peer):
        def measure():
            size = ["--count", run.sizes.slow_drain] if peer.is_slow and scenario == "drain" else []
            if peer.needs_redis:
                run.redis.clear()
                environment = {"REDIS_SOCKET": str(run.redis.socket)}
                run.note_peer(scenario, peer, lambda: peer.measure(scenario, environment, *arguments, *size))
                return
            with run.postgres.database(fresh()) as database:
                environment = {"DATABASE_URL": run.postgres.url(database)}
                run.note_peer(scenario, peer, lambda: peer.measure(scenario, environment, *arguments, *size))
        return measure
    return [measurement(peer) for peer in run.peers if scenario in peer.scenarios and (only is None or peer.name in only)]


def of_postgraphile(run, scenario, prepare, request):
    def measure():
        with run.postgres.database(fresh()) as database, run.running(PostGraphile(run.postgres, database)) as server:
            run.versions[POSTGRAPHILE] = {"version": server.told["version"], "settings": server.told["settings"]}
            if prepare:
                run.postgres.psql(database, prepare)
            body = Path(run.folder) / f"{scenario}.json"
            body.write_text(json.dumps(request))
            # The same generator as for jobql, against another server.
            bench = Jobql.__new__(Jobql)
            bench.program, bench.folder, bench.url, bench.process = run.jobql, run.folder, server.url, server.process
            run.note(scenario, POSTGRAPHILE, lambda: bench.bench("post", body, "--seconds", run.sizes.seconds))
    return [measure] if run.has_postgraphile else []


@scenario
def submit(run):
    """Jobs submitted one a request or call, by 64 clients at once; nothing runs them."""
    seconds = ["--seconds", run.sizes.seconds]
    created = {"job": {"clientId": "bench", "kind": "noop", "payload": {"n": 1}}}
    in_turn(run, [
        of_jobql(run, "submit", "noop", *seconds, slots=0, name=NOOP),
        of_jobql(run, "submit", "submit", *seconds, slots=0),
        *of_postgraphile(run, "submit", None, {"query": PG_CREATE, "variables": {"input": created}}),
        *of_peers(run, "submit", [*seconds, "--concurrency", 64]),
    ])


@scenario
def bulk(run):
    """Jobs submitted 1,000 a request or call, by two clients at once; nothing runs them."""
    seconds = ["--seconds", run.sizes.seconds]
    in_turn(run, [of_jobql(run, "bulk", "bulk", "--connections", 2, *seconds, slots=0), *of_peers(run, "bulk", seconds)])


@scenario
def drain(run):
    """A backlog of jobs that do nothing, worked off by one process."""
    count = ["--count", run.sizes.drain]
    in_turn(run, [of_jobql(run, "drain", "drain", *count), *of_peers(run, "drain", count), *of_peers(run, "drain_own", count)])


@scenario
def whole(run):
    """Submitted over HTTP, run, and the result received over one of many sockets."""
    sizes = run.sizes
    # Each client sends over a connection of its own, as far as the generator can hold them.
    arguments = ["--rate", sizes.whole_rate, "--sockets", sizes.sockets, "--seconds", sizes.whole_seconds, "--connections", 256]
    with run.postgres.database(fresh()) as database, run.running(Jobql(run.jobql, run.postgres, database, run.folder)) as server:
        time.sleep(2)
        at_rest = server.resident_mb()
        run.note("whole", JOBQL, lambda: server.bench("whole", *arguments) | {"server_mb_at_rest": at_rest})


@scenario
def idle(run):
    """One job at a time on a server at rest."""
    def handled():
        # By the generator: the server posts each job to it.
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        config = Path(run.folder) / "handled.toml"
        config.write_text(f'''[kinds.handled]
runner = "http"
url = "http://{address}/"
secret_env = "HANDLER_SECRET"
allow_private = true
''')
        with run.postgres.database(fresh()) as database, run.running(Jobql(run.jobql, run.postgres, database, run.folder, config=config)) as server:
            arguments = ["--kind", "handled", "--handle-at", address, "--count", run.sizes.idle]
            run.note("idle", HANDLED, lambda: server.bench("idle", *arguments))

    def native():
        # By a worker in the generator's process, as the peers have it; the submit comes over HTTP all the same.
        with run.postgres.database(fresh()) as database:
            config = Path(run.folder) / "native.toml"
            config.write_text(f'''database_url = "{run.postgres.url(database)}"
[kinds.native]
runner = "native"
queue = "native"
''')
            with run.running(Jobql(run.jobql, run.postgres, database, run.folder, config=config)) as server:
                arguments = ["--kind", "native", "--native-worker", config, "--count", run.sizes.idle]
                run.note("idle", NATIVE, lambda: server.bench("idle", *arguments))

    count = ["--count", run.sizes.idle]
    in_turn(run, [of_jobql(run, "idle", "idle", *count), native, handled, *of_peers(run, "idle", count)])


@scenario
def fanout(run):
    """Sockets that watch a job each, and many sockets on one client's jobs."""
    sizes = run.sizes
    in_turn(run, [
        of_jobql(run, "fanout", "fanout", "--sockets", sizes.sockets, "--changes", sizes.changes, reads_commits=True),
        of_jobql(run, "subscribers", "fanout", "--sockets", sizes.many_sockets, "--changes", sizes.changes, reads_commits=True),
        of_jobql(run, "stream", "stream", "--sockets", sizes.stream_sockets, "--rate", sizes.stream_rate, "--seconds", sizes.seconds),
    ])


@scenario
def reads(run):
    """Positions and pages with many jobs in the table."""
    sizes = run.sizes
    rows = f"""INSERT INTO app.job (id, client_id, kind, payload, created_at)
        SELECT (lpad(to_hex(n), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'bench', 'noop', '{{}}',
               now() - n * interval '1 ms'
        FROM generate_series(1, {sizes.pending}) AS n; ANALYZE app.job"""

    def of_ours():
        with run.postgres.database(fresh()) as database, run.running(Jobql(run.jobql, run.postgres, database, run.folder, 0)) as server:
            run.note("position", JOBQL, lambda: server.bench("position", "--load", sizes.pending, "--seconds", sizes.seconds))
            run.postgres.psql(database, "VACUUM ANALYZE job, client_job")
            run.note("page", JOBQL, lambda: server.bench("page", "--seconds", sizes.seconds))

    request = {"query": PG_PAGE, "variables": {"kind": "noop", "after": None}}
    in_turn(run, [of_ours, *of_postgraphile(run, "page", rows, request)])


def history(run):
    """A database with millions of finished jobs, made once and copied for each round."""
    name = "history"
    if run.postgres.psql("postgres", f"SELECT 1 FROM pg_database WHERE datname = '{name}'").stdout.strip():
        return name
    run.say("claim: writing a history …")
    run.postgres.psql("postgres", f"CREATE DATABASE {name}")
    with run.running(Jobql(run.jobql, run.postgres, name, run.folder)) as server:
        server.bench("drain", "--count", 100)
    # Written without triggers, as it would take an hour otherwise.
    run.postgres.psql(name, f"""
        SET session_replication_role = replica;
        INSERT INTO job (id, client_id, request_id, kind, queue, display_name, status, version, priority, level, payload,
                         result, attempt, max_attempts, lease_epoch, timeout_seconds, worker_id, started_at, finished_at)
        SELECT (lpad(to_hex(n), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'history', n::text, 'echo',
               'default', 'echo', 'DONE', 3, 100, 100, '{{}}', '{{}}', 1, 5, 1, 300, gen_random_uuid(), now(), now()
        FROM generate_series(1, {run.sizes.finished}) AS n;
        INSERT INTO client_job SELECT client_id, id FROM job WHERE client_id = 'history'""")
    run.postgres.psql(name, "VACUUM ANALYZE job, client_job")
    return name


@scenario
def claim(run):
    """Drains at a million pending, behind millions of finished rows, and while a snapshot is held open."""
    sizes = run.sizes
    first = min(sizes.drain, sizes.pending)
    of_jobql(run, "claim_empty", "drain", "--count", sizes.drain)()
    of_jobql(run, "claim_pending", "drain", "--count", sizes.pending, "--first", first)()
    with run.postgres.database(fresh(), template=history(run)) as database:
        with run.running(Jobql(run.jobql, run.postgres, database, run.folder)) as server:
            run.note("claim_finished", JOBQL, lambda: server.bench("drain", "--count", sizes.drain))
    with run.postgres.database(fresh()) as database, run.running(Jobql(run.jobql, run.postgres, database, run.folder)) as server:
        held = run.postgres.hold_snapshot(database, sizes.snapshot_seconds)
        until = time.monotonic() + sizes.snapshot_seconds
        last = None
        # As many drains as fit: the last one meets the most rows that cannot be cleaned up.
        while time.monotonic() < until - 10 or last is None:
            last = server.bench("drain", "--count", sizes.drain // 2)
        run.note("claim_snapshot", JOBQL, lambda: last)
        held.wait()
        run.note("claim_after_snapshot", JOBQL, lambda: server.bench("drain", "--count", sizes.drain // 2))
