// Where one is: the path and the query of the address, as signals.

import { signal } from '@preact/signals';

export const path = signal(location.pathname);
export const search = signal(location.search);

export function navigate(url: string, options: { replace?: boolean } = {}): void {
  const target = new URL(url, location.href);
  const moved = target.pathname !== location.pathname;
  history[options.replace ? 'replaceState' : 'pushState'](null, '', target);
  follow();
  if (moved) scrollTo(0, 0);
}

function follow(): void {
  path.value = location.pathname;
  search.value = location.search;
}

addEventListener('popstate', follow);

// Plain links between our own pages need no load. Whatever else a click may mean is left to the browser.
addEventListener('click', (event) => {
  if (event.defaultPrevented || event.button !== 0) return;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const anchor = (event.target as Element | null)?.closest?.('a');
  if (!anchor || anchor.target || anchor.hasAttribute('download')) return;
  if (anchor.origin !== location.origin || !anchor.pathname.startsWith('/ui/') || anchor.hash) return;
  event.preventDefault();
  navigate(anchor.href);
});
