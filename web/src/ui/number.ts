const GROUPED = new Intl.NumberFormat('en-GB');

/** `12,345`. */
export function grouped(value: number): string {
  return GROUPED.format(value);
}

/** `1 job`, `12,345 jobs`. */
export function count(value: number, noun: string): string {
  return `${grouped(value)} ${noun}${value === 1 ? '' : 's'}`;
}
