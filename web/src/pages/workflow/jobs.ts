// The jobs of a workflow, as they are known: read page by page, then kept by what is told of them.
//
// What depends on what never changes, so it is read once. Of a job's state the newer version wins, wherever it came from.
// A workflow has at most 10,000 jobs, which bounds what is held here.

import { signal } from '@preact/signals';
import { type Answer, query } from '../../api/client';
import {
  type JobStatus,
  type WorkflowJobFragment,
  type WorkflowJobsQuery,
  MoreDependenciesDocument,
  WorkflowJobsDocument,
} from '../../api/generated';
import type { Problem } from '../../api/problem';

type Page = NonNullable<WorkflowJobsQuery['workflow']>['jobs'];

export interface Item {
  job: WorkflowJobFragment;
  /** Ids of the jobs that it depends on. */
  parents: string[];
}

export type Items = ReadonlyMap<string, Item>;
export type Counts = Record<JobStatus, number>;

/** What is told is drawn at most this often. */
const DRAW_EVERY_MS = 150;
const MOST_EARLY = 10_000;
/** Pages of a job's dependencies that are read beyond the first; a graph with more is drawn without the rest. */
const MOST_MORE_PAGES = 200;

export class WorkflowJobs {
  /** All of them; none until they are read. */
  readonly all = signal<Items | null>(null);
  /** How many have been read while they are. */
  readonly readSoFar = signal(0);
  /** True when some dependencies are not known, as there are too many. */
  readonly partial = signal(false);
  /** Rises when a job that is known has changed. */
  readonly changes = signal(0);
  /** When something was told last, by the browser's clock. */
  toldAt = 0;

  #id: string;
  #early = new Map<string, WorkflowJobFragment>();
  #round = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(id: string) {
    this.#id = id;
  }

  /** Reads all of them, in place of what is known. A later call makes an earlier one end without effect. */
  async read(): Promise<Problem | null> {
    this.#round += 1;
    const round = this.#round;
    const known = this.all.peek();
    const items = new Map<string, Item>();
    const more: { item: Item; after: string | null }[] = [];
    let after: string | null = null;
    do {
      const answer: Answer<WorkflowJobsQuery> = await query(WorkflowJobsDocument, { id: this.#id, after, dependencies: known === null });
      if (round !== this.#round) return null;
      if (answer.problem) return answer.problem;
      const page: Page | undefined = answer.data.workflow?.jobs;
      for (const { dependsOn, ...job } of page?.nodes ?? []) {
        const item = { job, parents: dependsOn?.nodes.map(({ id }) => id) ?? known?.get(job.id)?.parents ?? [] };
        items.set(job.id, item);
        if (dependsOn?.pageInfo.hasNextPage) more.push({ item, after: dependsOn.pageInfo.endCursor });
      }
      if (known === null) this.readSoFar.value = items.size;
      after = page?.pageInfo.hasNextPage ? page.pageInfo.endCursor : null;
    } while (after !== null);
    const problem = await this.#readMore(more, round);
    if (problem || round !== this.#round) return problem;
    for (const item of items.values()) {
      const told = this.all.peek()?.get(item.job.id)?.job ?? this.#early.get(item.job.id);
      if (told && told.version > item.job.version) item.job = told;
    }
    this.#early.clear();
    this.all.value = items;
    return null;
  }

  /** A job as it was seen just now. */
  offer(job: WorkflowJobFragment): void {
    this.toldAt = Date.now();
    const items = this.all.peek();
    if (!items) {
      const early = this.#early.get(job.id);
      if (early ? early.version < job.version : this.#early.size < MOST_EARLY) this.#early.set(job.id, job);
      return;
    }
    const item = items.get(job.id);
    if (!item || item.job.version >= job.version) return;
    item.job = job;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.changes.value += 1;
    }, DRAW_EVERY_MS);
  }

  close(): void {
    this.#round += 1;
    clearTimeout(this.#timer);
  }

  async #readMore(more: { item: Item; after: string | null }[], round: number): Promise<Problem | null> {
    let pages = 0;
    for (const { item, after: first } of more) {
      for (let after = first; after !== null; pages += 1) {
        if (pages === MOST_MORE_PAGES) {
          this.partial.value = true;
          return null;
        }
        const { data, problem } = await query(MoreDependenciesDocument, { id: item.job.id, after });
        if (round !== this.#round) return null;
        if (problem) return problem;
        const page = data.job?.dependsOn;
        item.parents.push(...(page?.nodes.map(({ id }) => id) ?? []));
        after = page?.pageInfo.hasNextPage ? page.pageInfo.endCursor : null;
      }
    }
    return null;
  }
}

export function countsOf(items: Iterable<Item>): Counts {
  const counts: Counts = { RUNNING: 0, PENDING: 0, SCHEDULED: 0, BLOCKED: 0, DONE: 0, ERROR: 0, CANCELLED: 0 };
  for (const { job } of items) counts[job.status] += 1;
  return counts;
}
