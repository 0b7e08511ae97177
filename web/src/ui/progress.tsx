/** How far something is; a bar for the eye and a number for those who hear it. */
export function Progress({ fraction, label }: { fraction: number; label: string }) {
  const percent = Math.round(Math.min(Math.max(fraction, 0), 1) * 100);
  return (
    <div class="progress" role="progressbar" aria-label={`Progress of ${label}`} aria-valuemin={0} aria-valuemax={100} aria-valuenow={percent}>
      <div class="progress-done" style={{ width: `${percent}%` }} />
    </div>
  );
}
