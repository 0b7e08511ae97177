// The time, as the server has it: a browser's clock may be wrong, and durations are shown against the server's instants.

import { signal } from '@preact/signals';

/** A `Date` header tells whole seconds, and the answer took its time; less than this is no difference. */
const TOLERANCE_MS = 2_000;

let offset = 0;

/** Milliseconds since 1970 by the server's clock; rises each second, so what is computed from it stays current. */
export const now = signal(Date.now());

export function serverNow(): number {
  return Date.now() + offset;
}

export function noteServerDate(header: string | null): void {
  const told = header ? Date.parse(header) : Number.NaN;
  if (Number.isNaN(told)) return;
  const seen = told + 500 - Date.now();
  offset = Math.abs(seen) > TOLERANCE_MS ? seen : 0;
}

setInterval(() => {
  if (!document.hidden) now.value = serverNow();
}, 1_000);
document.addEventListener('visibilitychange', () => (now.value = serverNow()));
