// A text with line numbers, where each problem is shown at its line.

import { useEffect, useId, useRef } from 'preact/hooks';
import { readLines } from '../../api/json-text';
import type { Misfit } from '../../api/problem';

interface Properties {
  text: string;
  misfits: Misfit[];
  change: (text: string) => void;
}

export interface LineProblem {
  line: number;
  message: string;
}

/** The first mistake, or where the server's problems lie. */
export function lineProblems(text: string, misfits: Misfit[]): LineProblem[] {
  const { lines, mistake } = readLines(text);
  if (mistake) return [mistake];
  return misfits.map(({ pointer, message }) => ({ line: lineOf(lines, pointer), message }));
}

/** The line of the place, or of the nearest one around it: a field that is missing has no line. */
function lineOf(lines: Map<string, number>, pointer: string): number {
  for (let place = pointer; ; place = place.slice(0, place.lastIndexOf('/'))) {
    const line = lines.get(place);
    if (line !== undefined) return line;
    if (place === '') return 1;
  }
}

export function JsonEditor({ text, misfits, change }: Properties) {
  const id = useId();
  const area = useRef<HTMLTextAreaElement>(null);
  const gutter = useRef<HTMLDivElement>(null);
  const problems = lineProblems(text, misfits);
  const count = text.split('\n').length;
  const bad = new Set(problems.map(({ line }) => line));

  useEffect(() => {
    const field = area.current;
    if (!field) return;
    const follow = () => {
      if (gutter.current) gutter.current.scrollTop = field.scrollTop;
    };
    field.addEventListener('scroll', follow, { passive: true });
    return () => field.removeEventListener('scroll', follow);
  }, []);

  const go = (line: number) => {
    const field = area.current;
    if (!field) return;
    const start = text.split('\n').slice(0, line - 1).join('\n').length + (line > 1 ? 1 : 0);
    const end = text.indexOf('\n', start);
    field.focus();
    field.setSelectionRange(start, end < 0 ? text.length : end);
  };

  return (
    <div class="editor">
      <label class="field" for={id}>
        Payload
      </label>
      <div class="editor-frame">
        <div ref={gutter} class="editor-gutter" aria-hidden="true">
          {Array.from({ length: count }, (_, index) => (
            <span key={index} class={bad.has(index + 1) ? 'editor-bad' : ''}>
              {index + 1}
            </span>
          ))}
        </div>
        <textarea
          id={id}
          ref={area}
          spellcheck={false}
          autocomplete="off"
          wrap="off"
          rows={Math.min(Math.max(count + 1, 10), 26)}
          aria-invalid={problems.length > 0}
          aria-describedby={problems.length > 0 ? `${id}-problems` : undefined}
          value={text}
          onInput={(event) => change(event.currentTarget.value)}
        />
      </div>
      {problems.length > 0 && (
        <ul id={`${id}-problems`} class="editor-problems">
          {problems.map((problem, index) => (
            <li key={index} class="field-problem">
              <button type="button" class="link" onClick={() => go(problem.line)}>
                Line {problem.line}
              </button>{' '}
              {problem.message}
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
