import { complain, say } from './toast';

/** Puts the text on the clipboard. Browsers offer it to secure pages only; the old way works on the others. */
export async function copy(text: string, what: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    say(`${what} copied.`);
  } catch {
    if (copyBySelection(text)) say(`${what} copied.`);
    else complain('The browser does not let this page copy.');
  }
}

function copyBySelection(text: string): boolean {
  const area = document.createElement('textarea');
  area.value = text;
  area.className = 'hidden';
  document.body.append(area);
  area.select();
  const done = document.execCommand('copy');
  area.remove();
  return done;
}
