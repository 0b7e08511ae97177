// The rows that are shown, and what comes in while one reads them.
//
// Rows never move by themselves. A change of a shown job is applied in its row, once a frame however many come; an older
// version never replaces a newer one. Other jobs that belong on this page are only counted, up to a bound, until the
// reader asks for them. So memory is bounded by the page, whatever runs past.

import { type Signal, signal } from '@preact/signals';
import { query } from '../../api/client';
import { type JobRowFragment, type JobsQuery, JobRowFragmentDoc, TypedDocumentString } from '../../api/generated';

export type Job = JobRowFragment;
export type Row = Signal<Job>;

/** More new ones are told as "many". */
export const MOST_FRESH = 1_000;
/** The API lets through 30 aliases. */
const LOOK_UPS = 25;

export class Rows {
  /** Ids from top to bottom. */
  readonly order = signal<string[]>([]);
  /** How many jobs have come that belong here and are not shown. */
  readonly fresh = signal(0);
  /** Shown jobs that are there no more. */
  readonly gone = signal<ReadonlySet<string>>(new Set());

  #rows = new Map<string, Row>();
  #freshIds = new Set<string>();
  #waiting = new Map<string, Job>();
  #frame = 0;
  #belongs: (job: Job) => boolean = () => false;
  #hasOlder = false;
  #hasNewer = false;

  row(id: string): Row | undefined {
    return this.#rows.get(id);
  }

  /** Shows this page in place of what was there. */
  show(page: JobsQuery['jobs'], belongs: (job: Job) => boolean): void {
    this.#belongs = belongs;
    const rows = new Map<string, Row>();
    for (const job of page.nodes) {
      const known = this.#rows.get(job.id);
      if (known && known.peek().version > job.version) rows.set(job.id, known);
      else rows.set(job.id, signal(job));
    }
    this.#rows = rows;
    this.#freshIds.clear();
    this.fresh.value = 0;
    this.gone.value = new Set();
    this.#bounds(page);
    this.order.value = page.nodes.map((job) => job.id);
  }

  /** A job as it was seen just now. */
  offer(job: Job): void {
    const waiting = this.#waiting.get(job.id);
    if (waiting && waiting.version >= job.version) return;
    if (!this.#rows.has(job.id) && !this.#isFresh(job)) {
      this.#freshIds.delete(job.id);
      this.#waiting.delete(job.id);
      return;
    }
    this.#waiting.set(job.id, job);
    if (this.#waiting.size > MOST_FRESH) this.#apply();
    else this.#frame ||= requestAnimationFrame(() => this.#apply());
  }

  /** Brings the shown rows to what the server has, without moving any of them. */
  async reconcile(page: JobsQuery['jobs']): Promise<void> {
    this.#bounds(page);
    for (const job of page.nodes) this.offer(job);
    const found = new Set(page.nodes.map((job) => job.id));
    const missing = this.order.peek().filter((id) => !found.has(id));
    for (let start = 0; start < missing.length; start += LOOK_UPS) await this.#lookUp(missing.slice(start, start + LOOK_UPS));
    this.#apply();
  }

  #bounds(page: JobsQuery['jobs']): void {
    this.#hasOlder = page.pageInfo.hasNextPage;
    this.#hasNewer = page.pageInfo.hasPreviousPage;
  }

  /** Ids rise with time, so they tell on which page a job belongs. */
  #isFresh(job: Job): boolean {
    if (!this.#belongs(job)) return false;
    const order = this.order.peek();
    const [newest, oldest] = [order[0], order.at(-1)];
    if (newest === undefined || oldest === undefined) return true;
    return (job.id < newest || !this.#hasNewer) && (job.id > oldest || !this.#hasOlder);
  }

  #apply(): void {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    for (const job of this.#waiting.values()) {
      const row = this.#rows.get(job.id);
      if (!row) {
        if (this.#freshIds.size < MOST_FRESH) this.#freshIds.add(job.id);
      } else if (job.version > row.peek().version) {
        row.value = job;
      }
    }
    this.#waiting.clear();
    this.fresh.value = this.#freshIds.size;
  }

  /** Shown jobs that the list no longer has: they have another status now, or are deleted. */
  async #lookUp(ids: string[]): Promise<void> {
    const { data } = await query(lookUpDocument(ids), {});
    if (!data) return;
    const deleted = ids.filter((_, index) => data[`job${index}`] === null);
    for (const job of Object.values(data)) if (job) this.offer(job);
    if (deleted.length > 0) this.gone.value = new Set([...this.gone.peek(), ...deleted]);
  }
}

type LookUp = TypedDocumentString<Record<string, Job | null>, Record<string, never>>;

function lookUpDocument(ids: string[]): LookUp {
  const fields = ids.map((id, index) => `job${index}: job(id: ${JSON.stringify(id)}) { ...JobRow }`);
  return new TypedDocumentString(`query Shown { ${fields.join(' ')} } ${JobRowFragmentDoc}`) as unknown as LookUp;
}
