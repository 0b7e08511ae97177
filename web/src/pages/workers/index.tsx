// The workers: who lives, what each can run, and what it holds now.

import { type WorkersQuery, type WorkerState, WorkersDocument } from '../../api/generated';
import { useQuery } from '../../api/hooks';
import { isOperator } from '../../api/session';
import { grouped } from '../../ui/number';
import { OperatorsOnly } from '../../ui/operators-only';
import { Empty, Failed, Loading } from '../../ui/states';
import { Ago, Lasted } from '../../ui/time';

type Worker = WorkersQuery['workers'][number];

/** There is no subscription to workers; heartbeats come every few seconds. */
const REFRESH_MS = 2_000;

const WORDS: Record<WorkerState, string> = { LIVE: 'Live', DRAINING: 'Draining', LOST: 'Lost' };
const SHOWN_HELD = 50;

export function WorkersPage() {
  if (!isOperator.value) return <OperatorsOnly what="Workers" />;
  return <Workers />;
}

function Workers() {
  const { data, problem, reload } = useQuery(WorkersDocument, {}, { keep: true, everyMs: REFRESH_MS });
  if (problem && !data) return <Failed problem={problem} retry={reload} />;
  if (!data) return <Loading what="the workers" />;
  const workers = [...data.workers].sort((a, b) => Number(a.state === 'LOST') - Number(b.state === 'LOST'));
  const live = workers.filter((worker) => worker.state !== 'LOST');
  const slots = live.reduce((sum, worker) => sum + worker.slots, 0);
  const running = live.reduce((sum, worker) => sum + worker.running, 0);
  return (
    <section class="page workers" aria-labelledby="title">
      <div class="page-head">
        <h1 id="title" tabIndex={-1}>
          Workers
        </h1>
        <p class="muted">
          {grouped(live.length)} live, {grouped(running)} of {grouped(slots)} slots in use
        </p>
      </div>
      {workers.length === 0 && (
        <Empty title="No worker is registered">
          <p>
            Jobs wait until one is: start <code>jobql work</code>, or <code>jobql serve</code> with slots.
          </p>
        </Empty>
      )}
      {workers.map((worker) => (
        <WorkerCard key={worker.id} worker={worker} />
      ))}
    </section>
  );
}

function WorkerCard({ worker }: { worker: Worker }) {
  const full = worker.slots === 0 ? 0 : Math.min(worker.running / worker.slots, 1);
  return (
    <section class={`panel worker worker-${worker.state.toLowerCase()}`} aria-label={`Worker ${worker.name}`} data-worker={worker.id}>
      <div class="worker-head">
        <h2>{worker.name}</h2>
        <span class={worker.state === 'LIVE' ? 'tag tag-good' : 'tag tag-warn'}>{WORDS[worker.state]}</span>
        <span class="muted worker-seen">
          seen <Ago at={worker.lastSeenAt} />, up for <Lasted from={worker.startedAt} to={worker.state === 'LOST' ? worker.lastSeenAt : null} />
        </span>
      </div>
      <div class="worker-slots">
        <div class="slots" role="meter" aria-label="Slots in use" aria-valuemin={0} aria-valuemax={worker.slots} aria-valuenow={worker.running}>
          <div class="slots-used" style={{ width: `${full * 100}%` }} />
        </div>
        <span class="tabular">
          {grouped(worker.running)} of {grouped(worker.slots)} slots
        </span>
      </div>
      <dl class="facts">
        <dt>Queues</dt>
        <dd>{worker.queues.join(', ')}</dd>
        <dt>Kinds</dt>
        <dd>{worker.kinds.join(', ')}</dd>
        <dt>Id</dt>
        <dd class="mono">{worker.id}</dd>
      </dl>
      {worker.jobs.length > 0 && (
        <ul class="held" aria-label="Jobs that it holds">
          {worker.jobs.map((job) => (
            <li key={job.id}>
              <a href={`/ui/jobs/${job.id}`}>{job.displayName}</a>
              <span class="muted">{job.kind}</span>
              <span class="muted tabular">{job.progress?.fraction != null ? `${Math.floor(job.progress.fraction * 100)} %` : ''}</span>
              <span class="muted tabular">{job.startedAt && <Lasted from={job.startedAt} to={null} />}</span>
            </li>
          ))}
          {worker.running > SHOWN_HELD && <li class="muted">and {grouped(worker.running - SHOWN_HELD)} more</li>}
        </ul>
      )}
    </section>
  );
}
