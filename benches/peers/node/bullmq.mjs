// BullMQ on a Redis that appends to its log and flushes it each second: what was acknowledged in the last second may be
// lost, which none of the others allows.

import { Queue, Worker } from "bullmq";
import { BATCH, concurrency, count, oneAtATime, repeat, report, timed, until, versionOf } from "./measure.mjs";

const connection = { path: process.env.REDIS_SOCKET, maxRetriesPerRequest: null };
const settings = { concurrency: 100, enableAutoPipelining: true, appendfsync: "everysec" };
const queue = new Queue("noop", { connection: { ...connection, enableAutoPipelining: true } });
await queue.waitUntilReady();
const batch = (size) => Array.from({ length: size }, (_, n) => ({ name: "noop", data: { n } }));

await report("BullMQ", versionOf("bullmq"), JSON.stringify(settings), {
  submit: async () => {
    const { perSecond, cores } = await repeat(concurrency, () => queue.add("noop", { n: 1 }));
    return { jobs_per_second: perSecond, peer_cores: cores };
  },
  bulk: async () => {
    const jobs = batch(BATCH);
    const { perSecond, cores } = await repeat(2, () => queue.addBulk(jobs));
    return { jobs_per_second: perSecond * BATCH, peer_cores: cores };
  },
  drain: async () => {
    for (let done = 0; done < count; done += BATCH) await queue.addBulk(batch(Math.min(BATCH, count - done)));
    return timed(async () => {
      let completed = 0;
      const worker = new Worker("noop", async () => {}, { connection, concurrency: settings.concurrency });
      worker.on("completed", () => { completed += 1; });
      await until(() => completed >= count);
    });
  },
  idle: async () => {
    let started;
    const worker = new Worker("noop", async () => started(performance.now()), { connection });
    await worker.waitUntilReady();
    return oneAtATime(count, 30, async () => {
      const at = new Promise((resolve) => { started = resolve; });
      const sentAt = performance.now();
      await queue.add("noop", {});
      return (await at) - sentAt;
    });
  },
});
