// Short news at the edge of the page: read out politely, gone after a while.

import { signal } from '@preact/signals';

interface Toast {
  id: number;
  text: string;
  bad: boolean;
}

const SHOWN_MS = 6_000;
const toasts = signal<Toast[]>([]);
let last = 0;

export function say(text: string): void {
  show(text, false);
}

export function complain(text: string): void {
  show(text, true);
}

function show(text: string, bad: boolean): void {
  last += 1;
  const id = last;
  toasts.value = [...toasts.value.slice(-3), { id, text, bad }];
  setTimeout(() => (toasts.value = toasts.value.filter((toast) => toast.id !== id)), bad ? SHOWN_MS * 2 : SHOWN_MS);
}

export function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toasts.value.map((toast) => (
        <p key={toast.id} class={toast.bad ? 'toast toast-bad' : 'toast'}>
          {toast.text}
        </p>
      ))}
    </div>
  );
}
