// The life of a job as one bar: waiting, running, waiting again. Widths are durations.

import { now } from '../../api/clock';
import { isTerminal } from '../../ui/status';
import { Ago, duration } from '../../ui/time';
import type { Live } from '.';

interface Span {
  what: 'waited' | 'waits' | 'ran' | 'runs';
  tone: string;
  label: string;
  from: number;
  to: number;
}

export function spans(job: Live, at: number): Span[] {
  const list: Span[] = [];
  let end = Date.parse(job.createdAt);
  for (const attempt of job.attempts) {
    const [from, to] = [Date.parse(attempt.startedAt), Date.parse(attempt.endedAt)];
    list.push({ what: 'waited', tone: 'waited', label: 'Waited', from: end, to: from });
    list.push({ what: 'ran', tone: attempt.outcome.toLowerCase(), label: `Attempt ${attempt.number}`, from, to });
    end = to;
  }
  if (job.status === 'RUNNING' && job.startedAt) {
    const from = Date.parse(job.startedAt);
    list.push({ what: 'waited', tone: 'waited', label: 'Waited', from: end, to: from });
    list.push({ what: 'runs', tone: 'runs', label: `Attempt ${job.attempts.length + 1}`, from, to: at });
  } else if (!isTerminal(job.status)) {
    list.push({ what: 'waits', tone: 'waited', label: 'Waits', from: end, to: at });
  } else if (job.finishedAt && Date.parse(job.finishedAt) - end > 1) {
    list.push({ what: 'waited', tone: 'waited', label: 'Waited', from: end, to: Date.parse(job.finishedAt) });
  }
  return list.filter((span) => span.to > span.from);
}

export function Timeline({ job }: { job: Live }) {
  const list = spans(job, isTerminal(job.status) ? 0 : now.value);
  const total = (kinds: Span['what'][]) =>
    list.filter((span) => kinds.includes(span.what)).reduce((sum, span) => sum + span.to - span.from, 0);
  const ran = total(['ran', 'runs']);
  const words = `Waited ${duration(total(['waited', 'waits']))}${ran > 0 ? `, ran ${duration(ran)}` : ''}`;
  return (
    <figure class="timeline">
      <div class="timeline-bar" role="img" aria-label={words}>
        {list.map((span, index) => (
          <div
            key={index}
            class={`span span-${span.tone}`}
            title={`${span.label}: ${duration(span.to - span.from)}`}
            style={{ flexGrow: String(span.to - span.from) }}
          />
        ))}
      </div>
      <figcaption class="timeline-ends muted">
        <Ago at={job.createdAt} />
        <span>{words}</span>
        {job.finishedAt ? <Ago at={job.finishedAt} /> : <span>now</span>}
      </figcaption>
    </figure>
  );
}
