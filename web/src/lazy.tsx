// A page that is loaded when it is first shown.

import { useSignal } from '@preact/signals';
import type { ComponentType } from 'preact';
import { useEffect } from 'preact/hooks';
import { Loading } from './ui/states';

export type { ComponentType };

export function lazy<P extends object>(load: () => Promise<ComponentType<P>>): ComponentType<P> {
  let loaded: ComponentType<P> | null = null;
  return function Lazy(properties: P) {
    const ready = useSignal(loaded !== null);
    const failure = useSignal<unknown>(null);
    useEffect(() => {
      if (loaded) return;
      load().then(
        (component) => {
          loaded = component;
          ready.value = true;
        },
        (cause: unknown) => (failure.value = cause),
      );
    }, []);
    // A server of another version has other files: the page must be loaded anew.
    if (failure.value) throw new Error('This page could not be loaded. Reload to get the server’s present version.');
    if (!ready.value || !loaded) return <Loading what="the page" />;
    const Component = loaded;
    return <Component {...properties} />;
  };
}
