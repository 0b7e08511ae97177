"""procrastinate behind the same lines of JSON as the other peers."""

import argparse
import asyncio
import importlib.metadata
import json
import os
import resource
import time

import procrastinate

BATCH = 1000
WORKER_CONCURRENCY = 30

arguments = argparse.ArgumentParser()
arguments.add_argument("scenario", choices=["submit", "bulk", "drain", "idle"])
arguments.add_argument("--seconds", type=float, default=10)
arguments.add_argument("--count", type=int, default=100_000)
arguments.add_argument("--concurrency", type=int, default=64)
options = arguments.parse_args()

connector = procrastinate.PsycopgConnector(conninfo=os.environ["DATABASE_URL"], min_size=4, max_size=32)
app = procrastinate.App(connector=connector)
executed = 0
started = None


@app.task(name="noop")
async def noop(n=0):
    global executed
    executed += 1
    if started is not None and not started.done():
        started.set_result(time.perf_counter())


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def repeat(loops, once):
    began_at, cpu_before, done = time.perf_counter(), cpu(), 0

    async def loop():
        nonlocal done
        while time.perf_counter() < began_at + options.seconds:
            await once()
            done += 1

    await asyncio.gather(*(loop() for _ in range(loops)))
    took = time.perf_counter() - began_at
    return done / took, (cpu() - cpu_before) / took


async def submit():
    rate, cores = await repeat(options.concurrency, lambda: noop.defer_async(n=1))
    return {"jobs_per_second": rate, "peer_cores": cores}


async def bulk():
    jobs = [{"n": n} for n in range(BATCH)]
    rate, cores = await repeat(2, lambda: noop.batch_defer_async(*jobs))
    return {"jobs_per_second": rate * BATCH, "peer_cores": cores}


async def drain():
    for done in range(0, options.count, BATCH):
        await noop.batch_defer_async(*({"n": n} for n in range(min(BATCH, options.count - done))))
    began_at, cpu_before = time.perf_counter(), cpu()
    await app.run_worker_async(concurrency=WORKER_CONCURRENCY, wait=False, install_signal_handlers=False)
    took = time.perf_counter() - began_at
    assert executed == options.count, executed
    return {"jobs_per_second": options.count / took, "peer_cores": (cpu() - cpu_before) / took}


async def idle():
    global started
    worker = asyncio.create_task(app.run_worker_async(install_signal_handlers=False))
    await asyncio.sleep(0.5)
    times = []
    for _ in range(options.count):
        await asyncio.sleep(0.03)
        started = asyncio.get_running_loop().create_future()
        sent_at = time.perf_counter()
        await noop.defer_async()
        times.append((await started - sent_at) * 1000)
    worker.cancel()
    times.sort()
    return {"started_ms_p50": times[len(times) // 2], "started_ms_p99": times[int((len(times) - 1) * 0.99)]}


async def main():
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        figures = await {"submit": submit, "bulk": bulk, "drain": drain, "idle": idle}[options.scenario]()
    print(json.dumps({
        "peer": "procrastinate", "version": importlib.metadata.version("procrastinate"),
        "settings": f"pool of 32, worker concurrency {WORKER_CONCURRENCY}",
        "scenario": options.scenario, "figures": figures,
    }))


asyncio.run(main())
