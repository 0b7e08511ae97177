// A question that must be answered before anything happens.

import type { ComponentChildren } from 'preact';
import { useEffect, useId, useRef } from 'preact/hooks';

interface Properties {
  title: string;
  children: ComponentChildren;
  /** What the button says that does it; none when there is nothing to do. */
  action: string | null;
  danger?: boolean;
  busy?: boolean;
  confirm: () => void;
  close: () => void;
}

export function Confirm({ title, children, action, danger, busy, confirm, close }: Properties) {
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => {
    const opener = document.activeElement;
    dialog.current?.showModal();
    return () => {
      if (opener instanceof HTMLElement) opener.focus();
    };
  }, []);
  return (
    <dialog ref={dialog} class="dialog" aria-labelledby={heading} onCancel={close} onClose={close}>
      <h2 id={heading}>{title}</h2>
      <div class="dialog-body">{children}</div>
      <div class="dialog-actions">
        <button type="button" class="button" onClick={close}>
          {action === null ? 'Close' : 'Keep as is'}
        </button>
        {action !== null && (
          <button type="button" class={danger ? 'button button-danger' : 'button button-primary'} disabled={busy} onClick={confirm}>
            {action}
          </button>
        )}
      </div>
    </dialog>
  );
}
