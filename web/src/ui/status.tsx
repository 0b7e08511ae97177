// How a status looks: a shape, a word and a colour, so that none of them is needed alone.

import type { JobStatus } from '../api/generated';

export const STATUSES: JobStatus[] = ['RUNNING', 'PENDING', 'SCHEDULED', 'BLOCKED', 'DONE', 'ERROR', 'CANCELLED'];

export const WORDS: Record<JobStatus, string> = {
  BLOCKED: 'Blocked',
  SCHEDULED: 'Scheduled',
  PENDING: 'Pending',
  RUNNING: 'Running',
  DONE: 'Done',
  ERROR: 'Error',
  CANCELLED: 'Cancelled',
};

export function isTerminal(status: JobStatus): boolean {
  return status === 'DONE' || status === 'ERROR' || status === 'CANCELLED';
}

export function isRetryable(status: JobStatus): boolean {
  return status === 'ERROR' || status === 'CANCELLED';
}

const SHAPES: Record<JobStatus, string> = {
  BLOCKED: 'M3 3h10v10H3zM6 8h4',
  SCHEDULED: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2M8 5v3l2 2',
  PENDING: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2',
  RUNNING: 'M8 2a6 6 0 1 0 6 6',
  DONE: 'M3 8.5l3.5 3.5L13 4.5',
  ERROR: 'M4 4l8 8M12 4l-8 8',
  CANCELLED: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2M4 12l8-8',
};

export function StatusIcon({ status }: { status: JobStatus }) {
  return (
    <svg class={`icon status-${status.toLowerCase()}`} viewBox="0 0 16 16" aria-hidden="true">
      <path d={SHAPES[status]} />
    </svg>
  );
}

export function Status({ status, stopping }: { status: JobStatus; stopping?: boolean }) {
  return (
    <span class={`status status-${status.toLowerCase()}`}>
      <StatusIcon status={status} />
      {stopping && status === 'RUNNING' ? 'Stopping' : WORDS[status]}
    </span>
  );
}
