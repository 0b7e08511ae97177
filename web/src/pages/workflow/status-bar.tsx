import { STATUSES } from '../../ui/status';
import type { Counts } from './jobs';

/** Those that have ended first, then what is on its way. */
const ORDER = ['DONE', 'ERROR', 'CANCELLED', ...STATUSES.filter((status) => status !== 'DONE' && status !== 'ERROR' && status !== 'CANCELLED')] as const;

/** How many jobs are in each state, as one bar. What it says stands beside it in words. */
export function StatusBar({ counts }: { counts: Counts }) {
  return (
    <span class="status-bar" aria-hidden="true">
      {ORDER.map((status) =>
        counts[status] > 0 ? <span key={status} class={`part-${status.toLowerCase()}`} style={{ flexGrow: String(counts[status]) }} /> : null,
      )}
    </span>
  );
}
