"""A worker for jobql in plain Python: claims jobs, runs handlers in threads, keeps the leases, stops in order.

    Worker("http://127.0.0.1:8080/graphql", queues=["primes"], handlers={"primes": count}).run()

A handler gets a Job and returns what can be written as JSON. It raises JobError, or anything else to be tried again.
It should look at `job.stopped` now and then: that is set when the job is cancelled, when its lease is lost and others may
run it, and when the worker must stop.
"""

import http.client
import json
import os
import random
import signal
import socket
import threading
import time
import uuid
from urllib.parse import urlsplit

FIELDS = {
    "claimJobs": ("$input: ClaimJobsInput!", "input: $input", "{ job { id kind attempt payload } leaseToken }"),
    "heartbeat": ("$id: String!, $leases: [LeaseInput!]!", "workerId: $id, leases: $leases",
                  "{ results { jobId state } drain }"),
    "completeJob": ("$lease: LeaseInput!, $result: JSON", "lease: $lease, result: $result", "{ status }"),
    "failJob": ("$lease: LeaseInput!, $error: JobErrorInput!", "lease: $lease, error: $error", "{ status }"),
    "releaseJob": ("$lease: LeaseInput!", "lease: $lease", "{ status }"),
    "reportProgress": ("$lease: LeaseInput!, $fraction: Float, $message: String",
                       "lease: $lease, fraction: $fraction, message: $message", "{ id }"),
    "appendLogs": ("$lease: LeaseInput!, $lines: [LogLineInput!]!", "lease: $lease, lines: $lines", ""),
}
# With these, or without an answer, the same call is worth another try.
TRY_AGAIN = {"UNAVAILABLE", "UNKNOWN_OUTCOME", "RATE_LIMITED", "REQUEST_TIMEOUT", "INTERNAL_SERVER_ERROR"}


class JobError(Exception):
    """Why a job failed, in the handler's own words."""

    def __init__(self, code, message, retryable=True):
        super().__init__(message)
        self.code, self.message, self.retryable = code, message, retryable


class ApiError(Exception):
    """The server's answer was an error; `code` is its extensions.code."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code = code


class Api:
    """One connection to the server for each thread."""

    def __init__(self, url, token=None):
        self.url, self.local = urlsplit(url), threading.local()
        self.headers = {"content-type": "application/json", "accept": "application/graphql-response+json"}
        if token:
            self.headers["authorization"] = f"Bearer {token}"

    def call(self, field, patience=20, **variables):
        declared, passed, selection = FIELDS[field]
        body = json.dumps({"query": f"mutation ({declared}) {{ {field}({passed}) {selection} }}", "variables": variables})
        connection = getattr(self.local, "connection", None)
        if connection is None:
            of = http.client.HTTPSConnection if self.url.scheme == "https" else http.client.HTTPConnection
            connection = self.local.connection = of(self.url.hostname, self.url.port, timeout=patience)
        try:
            if connection.sock:
                connection.sock.settimeout(patience)
            connection.request("POST", self.url.path, body, self.headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except Exception:
            connection.close()
            self.local.connection = None
            raise
        if "errors" in answer:
            error = answer["errors"][0]
            raise ApiError(error.get("extensions", {}).get("code", response.status), error["message"])
        return answer["data"][field]


class Job:
    """A job that this worker holds."""

    def __init__(self, api, claimed):
        self.api, self.lost = api, False
        self.id, self.kind = claimed["job"]["id"], claimed["job"]["kind"]
        self.attempt, self.payload = claimed["job"]["attempt"], claimed["job"]["payload"]
        self.lease = {"jobId": self.id, "token": claimed["leaseToken"]}
        self.stopped = threading.Event()

    def progress(self, fraction=None, message=None):
        self._tell("reportProgress", fraction=fraction, message=message)

    def log(self, text):
        self._tell("appendLogs", lines=[{"stream": "STDOUT", "text": text}])

    def _tell(self, field, **variables):
        try:
            self.api.call(field, lease=self.lease, **variables)
        except ApiError as error:
            if error.code == "LEASE_LOST":
                self.lose()
        except (OSError, http.client.HTTPException, ValueError):
            pass  # Only worth saying now.

    def lose(self):
        self.lost = True
        self.stopped.set()


class Worker:
    """Claims and runs jobs until SIGTERM or SIGINT, then finishes what it has."""

    def __init__(self, url, queues, handlers, slots=4, lease_seconds=30, drain_seconds=20, name=None, token=None):
        self.api, self.queues, self.handlers = Api(url, token), queues, handlers
        self.name = name or f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.slots, self.lease_seconds, self.drain_seconds = slots, lease_seconds, drain_seconds
        self.held, self.changed, self.stopping = {}, threading.Condition(), threading.Event()

    def run(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stopping.set())
        over = threading.Event()
        beating = threading.Thread(target=self._keep_leases, args=[over], daemon=True)
        claiming = threading.Thread(target=self._claim, daemon=True)
        beating.start(), claiming.start()
        self.stopping.wait()
        with self.changed:
            self.changed.notify_all()
        claiming.join()
        if not self._wait_until_idle(self.drain_seconds):
            for job in self._jobs():
                job.stopped.set()
            self._wait_until_idle(5)
        over.set()

    def _claim(self):
        while not self.stopping.is_set():
            with self.changed:
                self.changed.wait_for(lambda: len(self.held) < self.slots or self.stopping.is_set())
                free = self.slots - len(self.held)
            # Short waits, so that a stop is soon heeded; a repeated claim brings what a lost answer held.
            wanted = {"workerId": self.name, "queues": self.queues, "leaseSeconds": self.lease_seconds, "waitSeconds": 3,
                      "max": min(free, 500), "claimId": uuid.uuid4().hex}
            claimed = [] if self.stopping.is_set() else self._persist("claimJobs", input=wanted) or []
            for job in [Job(self.api, each) for each in claimed]:
                with self.changed:
                    self.held[job.id] = job
                threading.Thread(target=self._work, args=[job], daemon=True).start()

    def _work(self, job):
        try:
            if self.stopping.is_set():
                end = ("releaseJob", {})
            else:
                end = ("completeJob", {"result": self.handlers[job.kind](job)})
        except JobError as error:
            end = ("failJob", {"error": {"code": error.code, "message": error.message, "retryable": error.retryable}})
        except Exception as error:  # pylint: disable=broad-except
            end = ("failJob", {"error": {"code": "FAILED", "message": f"{type(error).__name__}: {error}"}})
        if job.stopped.is_set() and end[0] != "completeJob":
            end = ("releaseJob", {})  # CANCELLED when it was asked to stop, else another worker's.
        self._persist(end[0], job, lease=job.lease, **end[1])
        with self.changed:
            self.held.pop(job.id, None)
            self.changed.notify_all()

    def _persist(self, field, job=None, **variables):
        """Repeats the call, which is safe, until it is answered, or the lease is lost, or the worker stops."""
        pause = 0.2
        while not (job and job.lost):
            try:
                return self.api.call(field, **variables)
            except ApiError as error:
                if error.code not in TRY_AGAIN:
                    if field == "completeJob" and error.code in ("INVALID_PAYLOAD", "PAYLOAD_TOO_LARGE"):
                        refused = {"code": error.code, "message": str(error), "retryable": False}
                        return self._persist("failJob", job, lease=job.lease, error=refused)
                    if error.code != "LEASE_LOST":
                        print(f"{field}: {error}", flush=True)
                    if field != "claimJobs":
                        return None
            except (OSError, http.client.HTTPException, ValueError):
                pass
            if field == "claimJobs" and self.stopping.is_set():
                return None
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(pause * 2, 5)
        return None

    def _keep_leases(self, over):
        safe_until = time.monotonic() + self.lease_seconds
        while not over.wait(min(self.lease_seconds / 3, 10)):
            sent_at, jobs = time.monotonic(), self._jobs()
            if sent_at > safe_until:
                [job.lose() for job in jobs]
            try:
                answer = self.api.call("heartbeat", self.lease_seconds / 3, id=self.name, leases=[job.lease for job in jobs])
            except (ApiError, OSError, http.client.HTTPException, ValueError):
                continue
            safe_until = sent_at + self.lease_seconds
            for job, result in zip(jobs, answer["results"]):
                if result["state"] == "LOST":
                    job.lose()
                elif result["state"] == "CANCEL_REQUESTED":
                    job.stopped.set()
            if answer["drain"]:
                self.stopping.set()

    def _jobs(self):
        with self.changed:
            return list(self.held.values())

    def _wait_until_idle(self, seconds):
        with self.changed:
            return self.changed.wait_for(lambda: not self.held, seconds)
