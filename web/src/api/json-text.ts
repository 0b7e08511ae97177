// Where things stand in a JSON text: the line of each place that a JSON Pointer names, or the line of the first mistake.

export interface Mistake {
  line: number;
  message: string;
}

export interface JsonText {
  /** By RFC 6901 pointer; lines count from 1. */
  lines: Map<string, number>;
  mistake: Mistake | null;
}

class Found extends Error {}

/** Reads the text and never throws. */
export function readLines(text: string): JsonText {
  const lines = new Map<string, number>();
  let at = 0;
  let line = 1;

  const fail = (message: string): never => {
    throw new Found(message);
  };
  const blank = () => {
    for (; at < text.length && ' \t\r\n'.includes(text[at] ?? ''); at += 1) if (text[at] === '\n') line += 1;
  };
  const shown = () => (at < text.length ? `“${text[at]}”` : 'the end');
  const expect = (sign: string, where: string) => {
    if (text[at] !== sign) fail(`Expected “${sign}” ${where}, found ${shown()}.`);
    at += 1;
  };
  const pattern = (expression: RegExp): string | null => {
    expression.lastIndex = at;
    const match = expression.exec(text);
    if (!match) return null;
    at += match[0].length;
    return match[0];
  };
  const string = (): string => {
    const start = line;
    const source = pattern(/"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y);
    if (source === null) {
      line = start;
      fail('This text does not end, or has a bad character or escape.');
    }
    return JSON.parse(source ?? '""') as string;
  };
  const value = (pointer: string): void => {
    blank();
    lines.set(pointer, line);
    const sign = text[at];
    if (sign === '{') return object(pointer);
    if (sign === '[') return array(pointer);
    if (sign === '"') return void string();
    if (pattern(/-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.])/y) ?? pattern(/(?:true|false|null)(?!\w)/y)) return;
    fail(`Expected a value, found ${shown()}.`);
  };
  const object = (pointer: string): void => {
    const keys = new Set<string>();
    at += 1;
    blank();
    if (text[at] === '}') return void (at += 1);
    for (;;) {
      blank();
      if (text[at] !== '"') fail(`Expected a field’s name in quotes, found ${shown()}.`);
      const key = string();
      if (keys.has(key)) fail(`The field ${JSON.stringify(key)} stands here twice.`);
      keys.add(key);
      blank();
      expect(':', 'after the field’s name');
      value(`${pointer}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`);
      blank();
      if (text[at] !== ',') return expect('}', 'or “,” after a field');
      at += 1;
    }
  };
  const array = (pointer: string): void => {
    at += 1;
    blank();
    if (text[at] === ']') return void (at += 1);
    for (let index = 0; ; index += 1) {
      value(`${pointer}/${index}`);
      blank();
      if (text[at] !== ',') return expect(']', 'or “,” after an item');
      at += 1;
    }
  };

  try {
    value('');
    blank();
    if (at < text.length) fail(`Expected the end, found ${shown()}.`);
    return { lines, mistake: null };
  } catch (error) {
    if (error instanceof Found) return { lines, mistake: { line, message: error.message } };
    // Nested so deep that even reading it fails; the server refuses far less.
    return { lines, mistake: { line, message: 'This is nested too deep.' } };
  }
}
