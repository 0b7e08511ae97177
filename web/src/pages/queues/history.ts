// What the server has sampled, as series of a chart: one value a bucket, 0 where nothing was active.

import type { LoadsQuery } from '../../api/generated';

export interface Span {
  name: string;
  seconds: number;
  bucketSeconds: number;
}

export const SPANS: Span[] = [
  { name: '1 hour', seconds: 3_600, bucketSeconds: 60 },
  { name: '6 hours', seconds: 6 * 3_600, bucketSeconds: 300 },
  { name: '1 day', seconds: 86_400, bucketSeconds: 1_200 },
];

export interface History {
  from: number;
  to: number;
  times: number[];
  pending: number[];
  running: number[];
  /** Attempts that ended a minute. */
  done: number[];
}

/** The span until now, on the borders of buckets, so that the samples of a bucket are whole. */
export function bounds(span: Span, now: number): { from: number; to: number } {
  const to = Math.floor(now / 1_000 / span.bucketSeconds) * span.bucketSeconds + span.bucketSeconds;
  return { from: to - span.seconds, to };
}

interface Present {
  pending: number;
  running: number;
}

/** The last bucket is not over: what is there now belongs to it, sampled or not. */
export function history(
  data: LoadsQuery | null,
  span: Span,
  range: { from: number; to: number },
  kinds: ReadonlySet<string>,
  present: Present,
): History {
  const size = Math.round((range.to - range.from) / span.bucketSeconds);
  const zeros = () => new Array<number>(size).fill(0);
  const result: History = {
    ...range,
    times: Array.from({ length: size }, (_, index) => range.from + index * span.bucketSeconds),
    pending: zeros(),
    running: zeros(),
    done: zeros(),
  };
  const add = (values: number[], at: string, value: number) => {
    const index = Math.floor((Date.parse(at) / 1_000 - range.from) / span.bucketSeconds);
    if (index >= 0 && index < size) values[index] = (values[index] ?? 0) + value;
  };
  for (const sample of data?.jobLoads ?? []) {
    if (!kinds.has(sample.kind)) continue;
    add(result.pending, sample.at, sample.pending);
    add(result.running, sample.at, sample.running);
  }
  for (const sample of data?.jobThroughput ?? []) {
    if (kinds.has(sample.kind)) add(result.done, sample.at, (sample.attempts * 60) / span.bucketSeconds);
  }
  result.pending[size - 1] = Math.max(result.pending[size - 1] ?? 0, present.pending);
  result.running[size - 1] = Math.max(result.running[size - 1] ?? 0, present.running);
  return result;
}
