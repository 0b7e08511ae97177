// graphile-worker with the settings of its own performance page: 24 concurrent jobs, a pool of 25, a local queue of 500,
// completions batched.

import { Logger, makeWorkerUtils, run } from "graphile-worker";
import pg from "pg";
import { BATCH, concurrency, count, databaseUrl, oneAtATime, repeat, report, timed, until, versionOf } from "./measure.mjs";

const logger = new Logger(() => () => {});
const pool = new pg.Pool({ connectionString: databaseUrl, max: Math.max(25, concurrency) });
const preset = {
  worker: { concurrentJobs: 24, maxPoolSize: 25, localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 },
};
const utils = await makeWorkerUtils({ pgPool: pool, logger });
await utils.migrate();

const batch = (size) => Array.from({ length: size }, (_, n) => ({ identifier: "noop", payload: { n } }));

await report("graphile-worker", versionOf("graphile-worker"), JSON.stringify(preset.worker), {
  submit: async () => {
    const { perSecond, cores } = await repeat(concurrency, () => utils.addJob("noop", { n: 1 }));
    return { jobs_per_second: perSecond, peer_cores: cores };
  },
  bulk: async () => {
    const jobs = batch(BATCH);
    const { perSecond, cores } = await repeat(2, () => utils.addJobs(jobs));
    return { jobs_per_second: perSecond * BATCH, peer_cores: cores };
  },
  drain: async () => {
    for (let done = 0; done < count; done += BATCH) await utils.addJobs(batch(Math.min(BATCH, count - done)));
    return timed(async () => {
      let executed = 0;
      const runner = await run({ pgPool: pool, logger, preset, taskList: { noop: () => { executed += 1; } } });
      await until(() => executed >= count);
      await until(async () => (await pool.query("SELECT FROM graphile_worker._private_jobs LIMIT 1")).rowCount === 0);
      void runner;
    });
  },
  idle: async () => {
    let started;
    await run({ pgPool: pool, logger, taskList: { noop: () => started(performance.now()) } });
    return oneAtATime(count, 30, async () => {
      const at = new Promise((resolve) => { started = resolve; });
      const sentAt = performance.now();
      await utils.addJob("noop", {});
      return (await at) - sentAt;
    });
  },
});
