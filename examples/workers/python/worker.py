#!/usr/bin/env python3
"""Counts primes for jobql: worker.py [URL]. Ends at SIGTERM, once its jobs are finished.

JOBQL_TOKEN is sent where it is set; JOBQL_SLOTS and JOBQL_LEASE_SECONDS change how much it takes on and for how long.
"""

import os
import sys

from jobql_worker import JobError, Worker


def is_prime(number):
    return number > 1 and all(number % divisor for divisor in range(2, int(number ** 0.5) + 1))


def count(job):
    """Payload {below, pauseSeconds = 0}; result {count, by}. It pauses ten times."""
    below = job.payload.get("below")
    if not isinstance(below, int) or not 0 <= below <= 10_000_000:
        raise JobError("INVALID_INPUT", "below: allowed is a whole number from 0 to 10000000", retryable=False)
    found, pause = 0, job.payload.get("pauseSeconds", 0)
    for tenth in range(10):
        if job.stopped.wait(pause):
            raise JobError("STOPPED", "asked to stop")
        found += sum(map(is_prime, range(below * tenth // 10, below * (tenth + 1) // 10)))
        if pause:
            job.progress((tenth + 1) / 10, f"{found} so far")
    return {"count": found, "by": "python"}


if __name__ == "__main__":
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080/graphql"
    worker = Worker(
        url,
        queues=["primes"],
        handlers={"primes": count},
        slots=int(os.environ.get("JOBQL_SLOTS", "4")),
        lease_seconds=int(os.environ.get("JOBQL_LEASE_SECONDS", "30")),
        token=os.environ.get("JOBQL_TOKEN"),
    )
    print(f"{worker.name} works for {url}", flush=True)
    worker.run()
