// What the adaptors of the Node peers share: their arguments, their loops, and the line of JSON that they print.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: "string", default: "10" },
    count: { type: "string", default: "100000" },
    concurrency: { type: "string", default: "64" },
  },
});

export const scenario = positionals[0];
export const seconds = Number(values.seconds);
export const count = Number(values.count);
export const concurrency = Number(values.concurrency);
export const databaseUrl = process.env.DATABASE_URL;
export const BATCH = 1000;

export const versionOf = (name) =>
  JSON.parse(readFileSync(new URL(`./node_modules/${name}/package.json`, import.meta.url))).version;

const cpu = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

// Calls `once` from so many loops until the time is over; how often it was answered in a second.
export async function repeat(loops, once) {
  const [beganAt, cpuBefore] = [performance.now(), cpu()];
  const until = beganAt + seconds * 1000;
  let done = 0;
  const loop = async () => {
    while (performance.now() < until) {
      await once();
      done += 1;
    }
  };
  await Promise.all(Array.from({ length: loops }, loop));
  const took = (performance.now() - beganAt) / 1000;
  return { perSecond: done / took, cores: (cpu() - cpuBefore) / took };
}

// How long `once` takes with `rest` milliseconds between, in milliseconds.
export async function oneAtATime(times, rest, once) {
  const took = [];
  for (let i = 0; i < times; i += 1) {
    await new Promise((resolve) => setTimeout(resolve, rest));
    took.push(await once(i));
  }
  took.sort((a, b) => a - b);
  const at = (share) => took[Math.round((took.length - 1) * share)];
  return { started_ms_p50: at(0.5), started_ms_p99: at(0.99) };
}

export async function until(condition) {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 5));
}

// Runs `drain`, which resolves once `count` jobs have ended.
export async function timed(drain) {
  const [beganAt, cpuBefore] = [performance.now(), cpu()];
  await drain();
  const took = (performance.now() - beganAt) / 1000;
  return { jobs_per_second: count / took, peer_cores: (cpu() - cpuBefore) / took, rss_mb: process.memoryUsage.rss() / 2 ** 20 };
}

export async function report(peer, version, settings, scenarios) {
  const figures = await scenarios[scenario]();
  console.log(JSON.stringify({ peer, version, settings, scenario, figures }));
  process.exit(0);
}
