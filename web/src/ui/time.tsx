// Instants and durations, for people: relative at a glance, exact on demand.

import { useComputed } from '@preact/signals';
import { now } from '../api/clock';

const EXACT = new Intl.DateTimeFormat(undefined, {
  year: 'numeric',
  month: 'short',
  day: 'numeric',
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  timeZoneName: 'short',
});

export function exact(instant: string): string {
  return EXACT.format(new Date(instant));
}

/** `850 ms`, `4.2 s`, `3 m 20 s`, `5 h 12 m`, `3 d 4 h`. */
export function duration(ms: number): string {
  const seconds = Math.max(ms, 0) / 1_000;
  if (seconds < 1) return `${Math.round(seconds * 1_000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  return wholeDuration(seconds);
}

function wholeDuration(seconds: number): string {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return two(minutes, 'm', Math.floor(seconds % 60), 's');
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return two(hours, 'h', minutes % 60, 'm');
  return two(Math.floor(hours / 24), 'd', hours % 24, 'h');
}

function two(large: number, largeUnit: string, small: number, smallUnit: string): string {
  return small > 0 ? `${large} ${largeUnit} ${small} ${smallUnit}` : `${large} ${largeUnit}`;
}

/** `just now`, `12 s ago`, `in 4 m`; one unit is enough. */
export function relative(instant: string, at: number): string {
  const ms = Date.parse(instant) - at;
  const seconds = Math.abs(ms) / 1_000;
  const size = oneUnit(seconds);
  if (size === null) return 'just now';
  return ms < 0 ? `${size} ago` : `in ${size}`;
}

function oneUnit(seconds: number): string | null {
  if (seconds < 3) return null;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} m`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** An instant, told relatively, with the exact one at the pointer and for machines. */
export function Ago({ at, exactly }: { at: string; exactly?: boolean }) {
  const text = useComputed(() => relative(at, now.value));
  return (
    <time dateTime={at} title={exact(at)}>
      {exactly ? `${exact(at)} (` : ''}
      {text}
      {exactly ? ')' : ''}
    </time>
  );
}

/** A duration; it grows until there is an end. */
export function Lasted({ from, to }: { from: string; to: string | null }) {
  if (to !== null) return <span>{duration(Date.parse(to) - Date.parse(from))}</span>;
  return <Growing from={from} />;
}

function Growing({ from }: { from: string }) {
  const text = useComputed(() => wholeDuration(Math.max(now.value - Date.parse(from), 0) / 1_000));
  return <span>{text}</span>;
}
