// schemathesis, with a fixed seed: no 5xx, no error without a code.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const conformance = join(dirname(fileURLToPath(import.meta.url)), '..');

test('schemathesis finds no 5xx and no error without a code', async () => {
  const program = [join(conformance, 'fuzz.py'), process.env.JOBQL_URL];
  const { stdout } = await promisify(execFile)(join(conformance, '.venv/bin/python'), program);
  assert.match(stdout, /codes: .*BAD_USER_INPUT/);
});
