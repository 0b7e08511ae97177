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

CLAIM = """mutation ($input: ClaimJobsInput!) {
  claimJobs(input: $input) { job { id kind attempt payload } leaseToken } }"""
HEARTBEAT = """mutation ($id: String!, $leases: [LeaseInput!]!) {
  heartbeat(workerId: $id, leases: $leases) { results { state } drain } }"""
COMPLETE = "mutation ($lease: LeaseInput!, $result: JSON) { completeJob(lease: $lease, result: $result) { status } }"
FAIL = "mutation ($lease: LeaseInput!, $error: JobErrorInput!) { failJob(lease: $lease, error: $error) { status } }"
RELEASE = "mutation ($lease: LeaseInput!) { releaseJob(lease: $lease) { status } }"
PROGRESS = """mutation ($lease: LeaseInput!, $fraction: Float, $message: String) {
  reportProgress(lease: $lease, fraction: $fraction, message: $message) { id } }"""
LOG = "mutation ($lease: LeaseInput!, $lines: [LogLineInput!]!) { appendLogs(lease: $lease, lines: $lines) }"

# With these the same call is worth another try.
TRY_AGAIN = {"NO_ANSWER", "UNAVAILABLE", "UNKNOWN_OUTCOME", "RATE_LIMITED", "REQUEST_TIMEOUT", "INTERNAL_SERVER_ERROR"}


class JobError(Exception):
    """Why a job failed, in the handler's own words."""

    def __init__(self, code, message, retryable=True):
        super().__init__(message)
        self.code, self.retryable = code, retryable


class ApiError(JobError):
    """The server refused a call, or did not answer it; `code` is its extensions.code, or NO_ANSWER."""


class Api:
    """Calls the server, over connections that stay open. Threads may share it."""

    def __init__(self, url, token=None):
        self.url, self.idle = urlsplit(url), []
        self.headers = {"content-type": "application/json", "accept": "application/graphql-response+json"}
        if token:
            self.headers["authorization"] = f"Bearer {token}"

    def call(self, document, patience=20, **variables):
        """What the document's one field gives."""
        body = json.dumps({"query": document, "variables": variables}, allow_nan=False)
        try:
            connection = self.idle.pop()
            connection.sock.settimeout(patience)
        except (IndexError, AttributeError):
            https = self.url.scheme == "https"
            of = http.client.HTTPSConnection if https else http.client.HTTPConnection
            connection = of(self.url.hostname, self.url.port, timeout=patience)
        try:
            connection.request("POST", self.url.path, body, self.headers)
            answer = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            raise ApiError("NO_ANSWER", repr(error)) from error
        self.idle.append(connection)
        if "errors" in answer:
            error = answer["errors"][0]
            raise ApiError(error["extensions"]["code"], error["message"])
        return next(iter(answer["data"].values()))


class Job:
    """A job that this worker holds."""

    def __init__(self, api, claimed):
        self.api, self.lost, self.stopped = api, False, threading.Event()
        self.id, self.kind = claimed["job"]["id"], claimed["job"]["kind"]
        self.attempt, self.payload = claimed["job"]["attempt"], claimed["job"]["payload"]
        self.lease = {"jobId": self.id, "token": claimed["leaseToken"]}

    def progress(self, fraction=None, message=None):
        self._tell(PROGRESS, fraction=fraction, message=message)

    def log(self, text):
        self._tell(LOG, lines=[{"stream": "STDOUT", "text": text}])

    def _tell(self, document, **variables):
        """Only worth saying now: what fails is not repeated."""
        try:
            self.api.call(document, lease=self.lease, **variables)
        except ApiError as error:
            if error.code == "LEASE_LOST":
                self.lose()

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
        claiming = threading.Thread(target=self._claim, daemon=True)
        claiming.start()
        threading.Thread(target=self._keep_leases, daemon=True).start()
        self.stopping.wait()
        with self.changed:
            self.changed.notify_all()
        claiming.join()
        if not self._is_idle_within(self.drain_seconds):
            for job in self._jobs():
                job.stopped.set()
            self._is_idle_within(5)

    def _claim(self):
        while True:
            with self.changed:
                self.changed.wait_for(lambda: len(self.held) < self.slots or self.stopping.is_set())
                free = self.slots - len(self.held)
            # Short waits, so that a stop is soon heeded. Under its id a repeated claim brings what a lost answer held.
            wanted = {"workerId": self.name, "queues": self.queues, "leaseSeconds": self.lease_seconds, "waitSeconds": 3,
                      "max": min(free, 500), "claimId": uuid.uuid4().hex}
            try:
                claimed = self._insist(CLAIM, self.stopping.is_set, input=wanted)
            except ApiError as error:
                print(f"cannot claim: {error.code}: {error}", flush=True)
                self.stopping.wait(5)
                continue
            if claimed is None:
                return
            for job in [Job(self.api, each) for each in claimed]:
                with self.changed:
                    self.held[job.id] = job
                threading.Thread(target=self._work, args=[job], daemon=True).start()

    def _work(self, job):
        try:
            self._run(job)
        except ApiError as error:
            if error.code != "LEASE_LOST":
                print(f"{job.kind} {job.id}: {error.code}: {error}", flush=True)
        finally:
            with self.changed:
                self.held.pop(job.id, None)
                self.changed.notify_all()

    def _run(self, job):
        if self.stopping.is_set():
            return self._end(job, RELEASE)
        try:
            result = self.handlers[job.kind](job)
            json.dumps(result, allow_nan=False)
        except Exception as error:  # pylint: disable=broad-except
            if job.stopped.is_set():
                return self._end(job, RELEASE)  # CANCELLED if it was asked to stop.
            return self._fail(job, error if isinstance(error, JobError) else JobError("FAILED", repr(error)))
        try:
            return self._end(job, COMPLETE, result=result)
        except ApiError as error:
            if error.code not in ("INVALID_PAYLOAD", "PAYLOAD_TOO_LARGE"):
                raise
            return self._fail(job, JobError(error.code, str(error), retryable=False))

    def _fail(self, job, error):
        self._end(job, FAIL, error={"code": error.code, "message": str(error), "retryable": error.retryable})

    def _end(self, job, document, **variables):
        self._insist(document, lambda: job.lost, lease=job.lease, **variables)

    def _insist(self, document, is_over, **variables):
        """Repeats the call, which is safe, until it is answered; None when it is over before."""
        pause = 0.2
        while not is_over():
            try:
                return self.api.call(document, **variables)
            except ApiError as error:
                if error.code not in TRY_AGAIN:
                    raise
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(pause * 2, 5)
        return None

    def _keep_leases(self):
        period, safe_until = min(self.lease_seconds / 3, 10), time.monotonic() + self.lease_seconds
        while True:
            time.sleep(period)
            # By our own clock, from before the call: after a pause others may run the jobs.
            sent_at, jobs = time.monotonic(), self._jobs()
            if sent_at > safe_until:
                for job in jobs:
                    job.lose()
            try:
                answer = self.api.call(HEARTBEAT, period, id=self.name, leases=[job.lease for job in jobs])
            except ApiError:
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

    def _is_idle_within(self, seconds):
        with self.changed:
            return self.changed.wait_for(lambda: not self.held, seconds)
