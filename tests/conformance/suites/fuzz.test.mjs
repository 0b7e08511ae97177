// schemathesis, with a fixed seed: no 5xx, no error without a code, every root field and every argument. It has a server
// of its own: what it cancels, deletes and pauses should be nobody else's.

import { execFile } from 'node:child_process';
import assert from 'node:assert/strict';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Server } from '../server.mjs';

const conformance = join(dirname(fileURLToPath(import.meta.url)), '..');
let server;
before(async () => {
  server = await new Server(['--slots', '4']).start();
});
after(() => server.remove());

test('schemathesis finds no 5xx and no error without a code', async (t) => {
  const program = [join(conformance, 'fuzz.py'), server.url];
  const { stdout } = await promisify(execFile)(join(conformance, '.venv/bin/python'), program);
  assert.match(stdout, /codes: .*BAD_USER_INPUT/);
  t.diagnostic(/^.* fields, .* arguments$/m.exec(stdout)[0]);
  assert.doesNotMatch(server.logged(), /panicked at/);
});
