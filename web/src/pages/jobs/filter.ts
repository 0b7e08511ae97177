// The filter of the list of jobs, kept in the address, so that a link or a reload leads to the same list.

import type { JobFilter, JobStatus, JobsQueryVariables } from '../../api/generated';
import { STATUSES } from '../../ui/status';

export const PAGE_SIZE = 50;

export interface Filter {
  status: JobStatus[];
  kind: string[];
  queue: string[];
  client: string;
  /** The id of one. */
  workflow: string;
  /** At most one of both; cursors of this very filter. */
  after: string;
  before: string;
}

export function readFilter(search: string): Filter {
  const parameters = new URLSearchParams(search);
  const list = (name: string) => (parameters.get(name) ?? '').split(',').filter((word) => word !== '');
  const words = list('status').map((word) => word.toUpperCase());
  const after = parameters.get('after') ?? '';
  return {
    status: STATUSES.filter((status) => words.includes(status)),
    kind: list('kind'),
    queue: list('queue'),
    client: parameters.get('client') ?? '',
    workflow: parameters.get('workflow') ?? '',
    after,
    before: after ? '' : (parameters.get('before') ?? ''),
  };
}

export function filterUrl(filter: Filter): string {
  const parameters = new URLSearchParams();
  if (filter.status.length > 0) parameters.set('status', filter.status.join(',').toLowerCase());
  if (filter.kind.length > 0) parameters.set('kind', filter.kind.join(','));
  if (filter.queue.length > 0) parameters.set('queue', filter.queue.join(','));
  if (filter.client) parameters.set('client', filter.client);
  if (filter.workflow) parameters.set('workflow', filter.workflow);
  if (filter.after) parameters.set('after', filter.after);
  if (filter.before) parameters.set('before', filter.before);
  const query = parameters.toString().replaceAll('%2C', ',');
  return query ? `/ui/jobs?${query}` : '/ui/jobs';
}

export function isFiltered(filter: Filter): boolean {
  return filter.status.length + filter.kind.length + filter.queue.length > 0 || filter.client !== '' || filter.workflow !== '';
}

/** An empty list would match nothing; none does not filter. */
function some<T>(list: T[]): T[] | null {
  return list.length > 0 ? list : null;
}

export function listVariables(filter: Filter): JobsQueryVariables {
  const page = filter.before ? { last: PAGE_SIZE, before: filter.before } : { first: PAGE_SIZE, after: filter.after || null };
  return { ...watchVariables(filter), status: some(filter.status), ...page };
}

/** Without the status: a row that is shown is told of when it leaves the status that it was found by. */
export function watchVariables(filter: Filter) {
  return {
    clientId: filter.client || null,
    kind: some(filter.kind),
    queue: some(filter.queue),
    workflowId: filter.workflow || null,
  };
}

/** All jobs that match, on every page, and that were there at this time. */
export function bulkFilter(filter: Filter, until: number): JobFilter {
  return { ...watchVariables(filter), status: some(filter.status), createdBefore: new Date(until).toISOString() };
}
