import { type Signal, useComputed } from '@preact/signals';
import { navigate } from '../../router';
import { Status, isTerminal } from '../../ui/status';
import { Progress } from '../../ui/progress';
import { Ago, Lasted } from '../../ui/time';
import type { Row, Rows } from './rows';

interface Properties {
  rows: Rows;
  /** Shown until the list that was asked for is there. */
  stale: boolean;
  selectable: boolean;
  selected: Signal<ReadonlySet<string>>;
  allMatching: Signal<boolean>;
}

export function Table({ rows, stale, selectable, selected, allMatching }: Properties) {
  const order = rows.order.value;
  const some = order.some((id) => selected.value.has(id));
  const all = some && order.every((id) => selected.value.has(id));
  const select = (ids: Iterable<string>) => {
    allMatching.value = false;
    selected.value = new Set(ids);
  };
  return (
    <div class="table-frame" aria-busy={stale}>
      <table id="jobs-table" tabIndex={-1} class="jobs-table">
        <caption class="hidden">Jobs, newest first</caption>
        <thead>
          <tr>
            {selectable && (
              <th class="cell-check" scope="col">
                <label class="check">
                  <input
                    type="checkbox"
                    aria-label="Select all jobs on this page"
                    checked={all}
                    indeterminate={some && !all}
                    onChange={() => select(all ? [] : order)}
                  />
                </label>
              </th>
            )}
            <th class="cell-status" scope="col">Status</th>
            <th class="cell-name" scope="col">Job</th>
            <th class="cell-kind" scope="col">Kind</th>
            <th class="cell-queue" scope="col">Queue</th>
            <th class="cell-client" scope="col">Client</th>
            <th class="cell-attempt number" scope="col">Attempt</th>
            <th class="cell-age" scope="col">Submitted</th>
            <th class="cell-lasted number" scope="col">Took</th>
          </tr>
        </thead>
        <tbody>
          {order.map((id) => {
            const row = rows.row(id);
            if (!row) return null;
            return (
              <JobRow
                key={id}
                row={row}
                gone={rows.gone.value.has(id)}
                selectable={selectable}
                checked={selected.value.has(id)}
                toggle={() => {
                  const next = new Set(selected.peek());
                  if (!next.delete(id)) next.add(id);
                  select(next);
                }}
              />
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

interface RowProperties {
  row: Row;
  gone: boolean;
  selectable: boolean;
  checked: boolean;
  toggle: () => void;
}

function JobRow({ row, gone, selectable, checked, toggle }: RowProperties) {
  const job = row.value;
  const href = `/ui/jobs/${job.id}`;
  const open = (event: MouseEvent) => {
    const target = event.target as Element;
    if (event.defaultPrevented || target.closest('a, input, label') || getSelection()?.toString()) return;
    if (event.metaKey || event.ctrlKey) window.open(href, '_blank');
    else navigate(href);
  };
  // Told whole where the row is narrow, and to those who hear it.
  const failed = useComputed(() => (row.value.status === 'ERROR' ? row.value.error : null)).value;
  return (
    <tr class={gone ? 'row row-gone' : 'row'} data-id={job.id} data-status={job.status} aria-selected={checked} onClick={open}>
      {selectable && (
        <td class="cell-check">
          <label class="check">
            <input type="checkbox" aria-label={`Select ${job.displayName}`} checked={checked} onChange={toggle} />
          </label>
        </td>
      )}
      <td class="cell-status">
        {gone ? <span class="muted">Deleted</span> : <Status status={job.status} stopping={job.cancelRequestedAt !== null} />}
        {job.status === 'RUNNING' && job.progress?.fraction != null && <Progress fraction={job.progress.fraction} label={job.displayName} />}
      </td>
      <td class="cell-name">
        <a href={href} title={job.displayName}>
          {job.displayName}
        </a>
        {failed ? (
          <span class="row-error" title={failed.message}>
            {failed.code}: {failed.message}
          </span>
        ) : (
          <span class="handle">{job.handle}</span>
        )}
      </td>
      <td class="cell-kind">{job.kind}</td>
      <td class="cell-queue">{job.queue}</td>
      <td class="cell-client">{job.clientId}</td>
      <td class="cell-attempt number">
        {job.attempt > 0 && (
          <>
            {job.attempt}
            <span class="muted"> / {job.maxAttempts}</span>
          </>
        )}
      </td>
      <td class="cell-age">
        <Ago at={job.createdAt} />
      </td>
      <td class="cell-lasted number">
        {job.startedAt && (job.status === 'RUNNING' || isTerminal(job.status)) && (
          <Lasted from={job.startedAt} to={job.finishedAt} />
        )}
      </td>
    </tr>
  );
}

/** / goes to the filter, j and k down and up the list, x selects. */
export function walkByKeys(): () => void {
  const onKey = (event: KeyboardEvent) => {
    const typing = (event.target as Element).closest?.('input:not([type=checkbox]), textarea, select, dialog, [contenteditable]');
    if (typing || event.metaKey || event.ctrlKey || event.altKey) return;
    if (event.key === '/') document.getElementById('find')?.focus();
    const table = document.getElementById('jobs-table');
    const at = document.activeElement?.closest('tr.row');
    if (event.key === 'j' || event.key === 'k') {
      const down = event.key === 'j';
      const next = at ? (down ? at.nextElementSibling : at.previousElementSibling) : table?.querySelector('tr.row');
      next?.querySelector('a')?.focus();
    } else if (event.key === 'x') {
      at?.querySelector<HTMLInputElement>('input[type=checkbox]')?.click();
    } else if (event.key !== '/') {
      return;
    }
    event.preventDefault();
  };
  addEventListener('keydown', onKey);
  return () => removeEventListener('keydown', onKey);
}
