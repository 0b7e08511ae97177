// A server and a browser for a suite.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { join } from 'node:path';
import { Server } from '../conformance/server.mjs';
import { launch, open } from './browser.mjs';

export const CONFIGURATION = join(import.meta.dirname, 'fixture/jobql.toml');

/** No worker takes the queue `archive`. */
export const FLAGS = ['--config', CONFIGURATION, '--slots', '8', '--queues', 'default,numbers,media', '--drain-seconds', '0'];

export function setUp(flags = FLAGS) {
  const own = { server: null, browser: null, origin: '', page: null };
  before(async () => {
    own.server = await new Server(flags).start();
    own.origin = own.server.url.replace('/graphql', '');
    own.browser = await launch();
  });
  after(async () => {
    await own.browser?.close();
    const log = own.server?.logged() ?? '';
    await own.server?.remove();
    assert.ok(!/panicked at/.test(log), log);
  });
  /** A window of its own. */
  own.window = (options) => open(own.browser, own.origin, options);
  return own;
}

/** Waits until the page says that it is connected. */
export function connected(page) {
  return page.waitForSelector('[data-link=connected]');
}

/** Waits until the condition, which may be asynchronous, holds. */
export async function until(what, holds, seconds = 30) {
  const end = Date.now() + seconds * 1_000;
  for (;;) {
    const value = await holds();
    if (value) return value;
    if (Date.now() > end) throw new Error(`after ${seconds} s still not: ${what}`);
    await new Promise((go) => setTimeout(go, 50));
  }
}
