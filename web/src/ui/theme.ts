// Light or dark: the system's, until one chooses. Both pages follow the choice.

import { signal } from '@preact/signals';

export type Theme = 'system' | 'light' | 'dark';

const KEY = 'jobql.theme';

function stored(): Theme {
  try {
    const value = localStorage.getItem(KEY);
    return value === 'light' || value === 'dark' ? value : 'system';
  } catch {
    return 'system';
  }
}

export const theme = signal<Theme>(stored());

theme.subscribe((value) => {
  const root = document.documentElement;
  if (value === 'system') delete root.dataset.theme;
  else root.dataset.theme = value;
});

const dark = matchMedia('(prefers-color-scheme: dark)');
/** What is seen now. */
export const isDark = signal(dark.matches);
const look = () => (isDark.value = theme.value === 'dark' || (theme.value === 'system' && dark.matches));
theme.subscribe(look);
dark.addEventListener('change', look);

export function setTheme(value: Theme): void {
  theme.value = value;
  try {
    if (value === 'system') localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, value);
  } catch {
    // It holds for this page then.
  }
}
