import { type ComponentChildren, type VNode } from 'preact';
import { useRef } from 'preact/hooks';

/** A component that is drawn again only when one of its properties is another. */
export function memo<P extends object>(draw: (properties: P) => VNode): (properties: P) => ComponentChildren {
  return function Memo(properties: P) {
    const last = useRef<{ properties: P; drawn: VNode } | null>(null);
    const keys = Object.keys(properties) as (keyof P)[];
    const same = last.current && keys.every((key) => last.current?.properties[key] === properties[key]);
    if (!same) last.current = { properties, drawn: draw(properties) };
    return last.current?.drawn ?? null;
  };
}
