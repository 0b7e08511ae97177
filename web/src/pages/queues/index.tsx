// The queues: what waits and runs in each, how that went lately, and the switches.

import { useSignal } from '@preact/signals';
import { useEffect, useMemo } from 'preact/hooks';
import { now, serverNow } from '../../api/clock';
import { KindsDocument, LoadsDocument, type QueueStateFragment, QueueUpdatedDocument, QueuesDocument } from '../../api/generated';
import { useQuery, useSubscription } from '../../api/hooks';
import { isOperator } from '../../api/session';
import { count } from '../../ui/number';
import { OperatorsOnly } from '../../ui/operators-only';
import { Empty, Failed, Loading } from '../../ui/states';
import { SPANS, bounds } from './history';
import { QueueCard } from './queue-card';

export type Queue = QueueStateFragment;

const RELOAD_MS = 30_000;

export function QueuesPage() {
  if (!isOperator.value) return <OperatorsOnly what="Queues" />;
  return <Queues />;
}

function Queues() {
  const reading = useQuery(QueuesDocument, {}, { keep: true, everyMs: RELOAD_MS });
  const kinds = useQuery(KindsDocument, {}).data?.jobKinds ?? [];
  const live = useSignal<Record<string, Queue>>({});
  const span = useSignal(SPANS[0] as (typeof SPANS)[number]);
  useEffect(() => {
    live.value = Object.fromEntries((reading.data?.queues ?? []).map((queue) => [queue.name, queue]));
  }, [reading.data]);
  const seen = (queue: Queue) => {
    live.value = { ...live.peek(), [queue.name]: queue };
  };
  useSubscription(QueueUpdatedDocument, reading.data ? {} : null, ({ queueUpdated }) => seen(queueUpdated));

  const minute = Math.floor(now.value / 60_000);
  const range = useMemo(() => bounds(span.value, serverNow()), [span.value, minute]);
  const loads = useQuery(
    LoadsDocument,
    {
      from: new Date(range.from * 1_000).toISOString(),
      to: new Date(range.to * 1_000).toISOString(),
      bucketSeconds: span.value.bucketSeconds,
    },
    { keep: true, everyMs: RELOAD_MS },
  );

  if (reading.problem && !reading.data) return <Failed problem={reading.problem} retry={reading.reload} />;
  if (!reading.data) return <Loading what="the queues" />;
  const queues = Object.values(live.value).sort((a, b) => (a.name < b.name ? -1 : 1));
  return (
    <section class="page queues" aria-labelledby="title">
      <div class="page-head">
        <h1 id="title" tabIndex={-1}>
          Queues
        </h1>
        <p class="muted">{count(queues.length, 'queue')}</p>
        <div class="mode" role="group" aria-label="Time that the charts show">
          {SPANS.map((each) => (
            <button key={each.name} type="button" class="button" aria-pressed={each === span.value} onClick={() => (span.value = each)}>
              {each.name}
            </button>
          ))}
        </div>
      </div>
      {queues.length === 0 && <Empty title="There are no queues" />}
      {queues.map((queue) => (
        <QueueCard
          key={queue.name}
          queue={queue}
          kinds={kinds.filter((kind) => kind.queue === queue.name).map((kind) => kind.name)}
          loads={loads.data}
          span={span.value}
          range={range}
          seen={seen}
        />
      ))}
    </section>
  );
}
