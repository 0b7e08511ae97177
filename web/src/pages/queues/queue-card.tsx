import { useMemo } from 'preact/hooks';
import type { LoadsQuery } from '../../api/generated';
import { Chart } from '../../ui/chart';
import { StatusCounts, byStatus } from '../../ui/counts';
import { grouped } from '../../ui/number';
import { Ago } from '../../ui/time';
import type { Queue } from '.';
import { type Span, history } from './history';
import { Settings } from './settings';
import { Upcoming } from './upcoming';

interface Properties {
  queue: Queue;
  /** Those that the configuration puts here. */
  kinds: string[];
  loads: LoadsQuery | null;
  span: Span;
  range: { from: number; to: number };
  seen: (queue: Queue) => void;
}

export function QueueCard({ queue, kinds, loads, span, range, seen }: Properties) {
  const { pending, running } = queue.counts;
  const own = useMemo(() => new Set([...kinds, ...queue.byKind.map(({ kind }) => kind)]), [kinds.join(), queue.byKind]);
  const past = useMemo(() => history(loads, span, range, own, { pending, running }), [loads, span, range, own, pending, running]);
  const load = useMemo(
    () => [
      { label: 'Pending', colour: 2 as const, values: past.pending },
      { label: 'Running', colour: 1 as const, values: past.running },
    ],
    [past],
  );
  const done = useMemo(() => [{ label: 'Ended a minute', colour: 3 as const, values: past.done }], [past]);
  return (
    <section class="panel queue" aria-label={`Queue ${queue.name}`} data-queue={queue.name}>
      <div class="queue-head">
        <h2>
          <a href={`/ui/jobs?queue=${encodeURIComponent(queue.name)}`}>{queue.name}</a>
        </h2>
        {queue.paused && <span class="tag tag-warn">Paused</span>}
        {queue.order === 'LIFO' && <span class="tag">Newest first</span>}
        {queue.maxRunning !== null && <span class="tag">At most {grouped(queue.maxRunning)} at once</span>}
        <span class="muted queue-workers">
          {queue.liveWorkers === 1 ? '1 live worker' : `${grouped(queue.liveWorkers)} live workers`}
        </span>
        <Settings queue={queue} seen={seen} />
      </div>
      {queue.liveWorkers === 0 && pending > 0 && (
        <p class="warning" role="alert">
          {pending === 1 ? 'A job waits' : `${grouped(pending)} jobs wait`}, and no live worker serves this queue.
        </p>
      )}
      <StatusCounts
        counts={byStatus(queue.counts)}
        href={(status) => `/ui/jobs?queue=${encodeURIComponent(queue.name)}&status=${status.toLowerCase()}`}
      />
      <p class="muted queue-oldest">
        {queue.oldestPendingAt ? (
          <>
            The oldest pending job became ready <Ago at={queue.oldestPendingAt} />.
          </>
        ) : (
          'Nothing is pending.'
        )}
        {running === 0 && pending > 0 && queue.paused && ' The queue is paused.'}
      </p>
      <div class="charts">
        <div>
          <h3>Load</h3>
          <Chart label={`Pending and running jobs of ${queue.name}`} times={past.times} from={past.from} to={past.to} series={load} />
        </div>
        <div>
          <h3>Throughput</h3>
          <Chart label={`Attempts of ${queue.name} that ended a minute`} times={past.times} from={past.from} to={past.to} series={done} />
        </div>
      </div>
      {pending > 0 && <Upcoming name={queue.name} />}
    </section>
  );
}
