// Chromium with the network blocked, and pages that tell what went wrong in them.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chromium } from 'playwright-core';

function executable() {
  for (const name of ['chromium', 'chromium-browser', 'google-chrome']) {
    try {
      return execFileSync('which', [name], { encoding: 'utf8' }).trim();
    } catch {
      // The next one, then.
    }
  }
  throw new Error('chromium is not installed');
}

export function launch() {
  const args = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-dev-shm-usage'];
  return chromium.launch({ executablePath: executable(), args, headless: true });
}

/**
 * A window that reaches the server at `origin` and nothing else. `problems` holds what went wrong in its pages: errors,
 * violations of the content security policy, requests to anywhere else. `whole()` fails when there was any.
 */
export async function open(browser, origin, options = {}) {
  const context = await browser.newContext({ baseURL: origin, viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(30_000);
  const problems = [];
  await context.route('**/*', (route) => {
    const url = route.request().url();
    if (url.startsWith(`${origin}/`) || url.startsWith('data:') || url.startsWith('blob:')) return route.continue();
    problems.push(`a request to ${url}`);
    return route.abort();
  });
  context.on('page', (page) => {
    page.on('pageerror', (error) => problems.push(`an error: ${error.stack ?? error}`));
    page.on('websocket', (socket) => {
      if (!socket.url().startsWith(`${origin.replace('http', 'ws')}/`)) problems.push(`a socket to ${socket.url()}`);
    });
    page.on('console', (message) => {
      if (message.type() === 'error' && !expected(message.text())) problems.push(`the console says: ${message.text()}`);
    });
  });
  const page = await context.newPage();
  return {
    context,
    page,
    problems,
    whole: async () => {
      assert.deepEqual(problems, []);
      await context.close();
    },
  };
}

/** The browser tells of each failed connection and each 401 itself. */
function expected(text) {
  return /WebSocket connection to .* failed|Failed to load resource/.test(text);
}
