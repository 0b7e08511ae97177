// pg-boss with batches, LISTEN/NOTIFY, and polling without pause while batches come back full.

import pg from "pg";
import { PgBoss } from "pg-boss";
import { BATCH, concurrency, count, databaseUrl, oneAtATime, repeat, report, timed, until, versionOf } from "./measure.mjs";

const settings = { batchSize: 500, localConcurrency: 2, burstWhenBatchFull: true, notify: true };
const boss = new PgBoss({ connectionString: databaseUrl, max: Math.max(25, concurrency), useListenNotify: true });
boss.on("error", (error) => console.error(String(error)));
await boss.start();
await boss.createQueue("noop", { notify: true });
const { notify: _, ...work } = settings;

await report("pg-boss", versionOf("pg-boss"), JSON.stringify(settings), {
  submit: async () => {
    const { perSecond, cores } = await repeat(concurrency, () => boss.send("noop", { n: 1 }));
    return { jobs_per_second: perSecond, peer_cores: cores };
  },
  bulk: async () => {
    const jobs = Array.from({ length: BATCH }, (_, n) => ({ data: { n } }));
    const { perSecond, cores } = await repeat(2, () => boss.insert("noop", jobs));
    return { jobs_per_second: perSecond * BATCH, peer_cores: cores };
  },
  drain: async () => {
    for (let done = 0; done < count; done += BATCH) {
      await boss.insert("noop", Array.from({ length: Math.min(BATCH, count - done) }, (_, n) => ({ data: { n } })));
    }
    const client = new pg.Client({ connectionString: databaseUrl });
    await client.connect();
    return timed(async () => {
      let executed = 0;
      await boss.work("noop", work, async (jobs) => { executed += jobs.length; });
      await until(() => executed >= count);
      await until(async () => (await client.query("SELECT FROM pgboss.job WHERE name = 'noop' AND state < 'completed' LIMIT 1")).rowCount === 0);
    });
  },
  idle: async () => {
    let started;
    await boss.work("noop", { pollingIntervalSeconds: 0.5 }, async () => started(performance.now()));
    return oneAtATime(count, 30, async () => {
      const at = new Promise((resolve) => { started = resolve; });
      const sentAt = performance.now();
      await boss.send("noop", {});
      return (await at) - sentAt;
    });
  },
});
