// Several of a list, behind a button: a disclosure with checkboxes.

import { useEffect, useRef } from 'preact/hooks';

interface Properties {
  label: string;
  options: string[];
  chosen: string[];
  choose: (chosen: string[]) => void;
}

export function Choice({ label, options, chosen, choose }: Properties) {
  const details = useRef<HTMLDetailsElement>(null);
  useEffect(() => {
    const close = (event: Event) => {
      const box = details.current;
      if (box?.open && !box.contains(event.target as Node)) box.open = false;
    };
    document.addEventListener('pointerdown', close);
    document.addEventListener('focusin', close);
    return () => {
      document.removeEventListener('pointerdown', close);
      document.removeEventListener('focusin', close);
    };
  }, []);
  // What an old link names may be unknown by now; it can still be taken away.
  const all = [...new Set([...options, ...chosen])];
  const toggle = (option: string) =>
    choose(chosen.includes(option) ? chosen.filter((other) => other !== option) : [...chosen, option]);
  return (
    <details
      ref={details}
      class="choice"
      onKeyDown={(event) => {
        if (event.key !== 'Escape' || !details.current?.open) return;
        details.current.open = false;
        details.current.querySelector('summary')?.focus();
      }}
    >
      <summary class={chosen.length > 0 ? 'button button-on' : 'button'}>
        {label}
        {chosen.length > 0 && <span class="choice-chosen">{chosen.length > 2 ? chosen.length : chosen.join(', ')}</span>}
      </summary>
      <fieldset class="choice-options">
        <legend class="hidden">{label}</legend>
        {all.length === 0 && <p class="muted">There are none.</p>}
        {all.map((option) => (
          <label key={option}>
            <input type="checkbox" checked={chosen.includes(option)} onChange={() => toggle(option)} />
            {option}
          </label>
        ))}
        {chosen.length > 0 && (
          <button type="button" class="link" onClick={() => choose([])}>
            Any
          </button>
        )}
      </fieldset>
    </details>
  );
}
