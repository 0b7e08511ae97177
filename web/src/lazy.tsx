// A page whose code comes apart from the first load: when the browser is idle, or at the latest when it is shown.
//
// So a page can be turned to while there is no server. Code that could not be had then is asked for again once the server
// is back; when it is there and has no such file, it is of another version, and the whole must be loaded anew.

import { useSignal } from '@preact/signals';
import type { ComponentType } from 'preact';
import { useEffect } from 'preact/hooks';
import { link } from './api/socket';
import { Loading } from './ui/states';

/** A page; `id` is what its address names, where it names something. */
export type Page = ComponentType<{ id: string }>;
export type LazyPage = Page & { preload: () => Promise<void> };

const TRY_AGAIN_MS = 1_000;

export function lazy(load: () => Promise<Page>): LazyPage {
  let loaded: Page | null = null;
  const preload = async () => {
    loaded ??= await load();
  };
  function Lazy(properties: { id: string }) {
    const ready = useSignal(loaded !== null);
    const failures = useSignal(0);
    const connected = link.value.state === 'connected';
    useEffect(() => {
      if (loaded) return;
      let shown = true;
      const attempt = () =>
        preload().then(
          () => shown && (ready.value = true),
          () => shown && (failures.value += 1),
        );
      const timer = setTimeout(() => void attempt(), failures.value === 0 ? 0 : TRY_AGAIN_MS);
      return () => {
        shown = false;
        clearTimeout(timer);
      };
    }, [failures.value]);
    // A lost connection may be noticed a moment later than a file that does not come.
    if (failures.value > 2 && connected) throw new Error('This page could not be loaded. Reload to get the server’s present version.');
    if (!ready.value || !loaded) return <Loading what="the page" />;
    const Loaded = loaded;
    return <Loaded {...properties} />;
  }
  return Object.assign(Lazy, { preload });
}

/** One after the other, when the browser has nothing better to do. What does not come is asked for when it is shown. */
export function preloadWhenIdle(pages: LazyPage[]): void {
  const [page, ...rest] = pages;
  if (!page) return;
  const idle = globalThis.requestIdleCallback ?? ((go: () => void) => setTimeout(go, TRY_AGAIN_MS));
  idle(() => void page.preload().catch(() => {}).then(() => preloadWhenIdle(rest)));
}
