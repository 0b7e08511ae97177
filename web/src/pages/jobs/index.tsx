// The list of jobs: newest first, live, and steady under the reader's eyes.

import { useSignal } from '@preact/signals';
import { useEffect, useMemo, useRef } from 'preact/hooks';
import { query } from '../../api/client';
import { type JobsQuery, JobsDocument, JobsUpdatedDocument } from '../../api/generated';
import { useSubscription } from '../../api/hooks';
import { printJson } from '../../api/json';
import type { Problem } from '../../api/problem';
import { mayChangeJobs } from '../../api/session';
import { connections } from '../../api/socket';
import { navigate, search } from '../../router';
import { count, grouped } from '../../ui/number';
import { Empty, Failed, Loading } from '../../ui/states';
import { BulkActions } from './bulk';
import { FilterBar } from './filter-bar';
import { type Filter, filterUrl, isFiltered, listVariables, readFilter, watchVariables } from './filter';
import { type Job, MOST_FRESH, Rows } from './rows';
import { Table, walkByKeys } from './table';

/** What is shown is compared with the server's list this often, and soon after watching began. */
const RECONCILE_MS = 20_000;
const FIRST_RECONCILE_MS = 2_000;

type Page = JobsQuery['jobs'];

export function JobsPage() {
  const filter = readFilter(search.value);
  const key = printJson(listVariables(filter));
  const rows = useMemo(() => new Rows(), []);
  const page = useSignal<Page | null>(null);
  const problem = useSignal<Problem | null>(null);
  const shownKey = useSignal('');
  const live = useSignal(true);
  const selected = useSignal<ReadonlySet<string>>(new Set());
  const allMatching = useSignal(false);
  const latestKey = useRef(key);
  latestKey.current = key;

  const read = async (how: 'show' | 'reconcile') => {
    const asked = latestKey.current;
    const answer = await query(JobsDocument, listVariables(filter));
    if (latestKey.current !== asked) return;
    problem.value = answer.problem;
    if (!answer.data) return;
    page.value = answer.data.jobs;
    if (how === 'reconcile' && shownKey.peek() === asked) return rows.reconcile(answer.data.jobs);
    rows.show(answer.data.jobs, (job) => matches(filter, job));
    shownKey.value = asked;
  };
  const latestRead = useRef(read);
  latestRead.current = read;

  useEffect(() => {
    selected.value = new Set();
    allMatching.value = false;
    void latestRead.current('show');
  }, [key]);

  const connection = connections.value;
  useEffect(() => {
    if (!live.value) return;
    const again = () => {
      if (!document.hidden) void latestRead.current('reconcile');
    };
    // Each connection after the first one has left a gap behind.
    if (connection > 1) again();
    const first = setTimeout(again, FIRST_RECONCILE_MS);
    const timer = setInterval(again, RECONCILE_MS);
    return () => {
      clearTimeout(first);
      clearInterval(timer);
    };
  }, [key, connection, live.value]);

  useSubscription(JobsUpdatedDocument, live.value ? watchVariables(filter) : null, ({ jobUpdated }) => rows.offer(jobUpdated));

  // Where nothing is shown, nothing can move.
  const order = rows.order.value;
  const fresh = rows.fresh.value;
  const loaded = shownKey.value === key;
  useEffect(() => {
    if (loaded && order.length === 0 && fresh > 0) void latestRead.current('show');
  }, [loaded, order.length, fresh]);

  useEffect(() => walkByKeys(), []);

  const go = (change: Partial<Filter>) => navigate(filterUrl({ ...filter, after: '', before: '', ...change }));
  const showFresh = () => {
    void read('show');
    document.getElementById('jobs-table')?.focus({ preventScroll: true });
    scrollTo(0, 0);
  };

  const total = page.value?.totalCount ?? 0;
  return (
    <section class="page jobs" aria-labelledby="title">
      <div class="page-head">
        <h1 id="title" tabIndex={-1}>
          Jobs
        </h1>
        <Shown shown={order.length} total={total} loaded={loaded} />
        <LiveSwitch live={live.value} change={(on) => (live.value = on)} />
      </div>
      <FilterBar filter={filter} change={go} />
      {mayChangeJobs.value && (
        <BulkActions
          filter={filter}
          shown={order}
          total={total}
          selected={selected}
          allMatching={allMatching}
          done={() => void read('reconcile')}
        />
      )}
      <div class="fresh" role="status" aria-live="polite">
        {fresh > 0 && order.length > 0 && (
          <button type="button" class="button button-fresh" onClick={showFresh}>
            ↑ {fresh >= MOST_FRESH ? `${grouped(MOST_FRESH)}+ new jobs` : count(fresh, 'new job')}
          </button>
        )}
      </div>
      {problem.value && order.length === 0 ? (
        <Failed problem={problem.value} retry={() => void read('show')} />
      ) : !loaded && order.length === 0 ? (
        <Loading what="jobs" />
      ) : order.length === 0 ? (
        <Nothing filtered={isFiltered(filter)} clear={() => navigate('/ui/jobs')} />
      ) : (
        <Table rows={rows} stale={!loaded} selectable={mayChangeJobs.value} selected={selected} allMatching={allMatching} />
      )}
      {page.value && order.length > 0 && <Pager page={page.value} go={go} />}
    </section>
  );
}

function matches(filter: Filter, job: Job): boolean {
  return filter.status.length === 0 || filter.status.includes(job.status);
}

function Shown({ shown, total, loaded }: { shown: number; total: number; loaded: boolean }) {
  if (!loaded) return <p class="muted shown" />;
  return (
    <p class="muted shown">
      Showing {grouped(shown)} of {grouped(Math.max(total, shown))}
    </p>
  );
}

function LiveSwitch({ live, change }: { live: boolean; change: (live: boolean) => void }) {
  return (
    <button type="button" class="button live-switch" aria-pressed={live} onClick={() => change(!live)}>
      <span class={live ? 'dot dot-live' : 'dot'} aria-hidden="true" />
      {live ? 'Live' : 'Paused'}
      <span class="hidden">{live ? ', press to pause updates' : ', press to go on'}</span>
    </button>
  );
}

function Nothing({ filtered, clear }: { filtered: boolean; clear: () => void }) {
  if (filtered) {
    return (
      <Empty title="No job matches">
        <button type="button" class="button" onClick={clear}>
          Clear the filter
        </button>
      </Empty>
    );
  }
  return (
    <Empty title="No jobs yet">
      <p>They show here as soon as somebody submits one.</p>
      {mayChangeJobs.value && (
        <a class="button button-primary" href="/ui/submit">
          Submit a job
        </a>
      )}
    </Empty>
  );
}

function Pager({ page, go }: { page: Page; go: (change: Partial<Filter>) => void }) {
  const { hasPreviousPage, hasNextPage, startCursor, endCursor } = page.pageInfo;
  if (!hasPreviousPage && !hasNextPage) return null;
  const turn = (change: Partial<Filter>) => {
    go(change);
    scrollTo(0, 0);
  };
  return (
    <nav class="pager" aria-label="Pages of jobs">
      <button type="button" class="button" disabled={!hasPreviousPage} onClick={() => turn({})}>
        Newest
      </button>
      <button type="button" class="button" disabled={!hasPreviousPage} onClick={() => turn({ before: startCursor ?? '' })}>
        ← Newer
      </button>
      <button type="button" class="button" disabled={!hasNextPage} onClick={() => turn({ after: endCursor ?? '' })}>
        Older →
      </button>
    </nav>
  );
}

