// GraphiQL, with nothing but the server to reach.

import { describe, test } from 'node:test';
import { submit } from '../api.mjs';
import { setUp } from '../setup.mjs';

describe('GraphiQL', { concurrency: false }, () => {
  const own = setUp();
  const result = (page) => page.locator('.result-window');
  const tab = async (page, name) => {
    await page.getByRole('tab', { name }).click();
    await page.locator('.graphiql-query-editor').getByText(name, { exact: true }).first().waitFor();
  };

  /** Executes what the editor shows. Right after a tab was chosen GraphiQL may still run the other one's operation: then again. */
  const execute = async (page, seen) => {
    for (let tries = 1; ; tries += 1) {
      await page.getByRole('button', { name: /execute/i }).click();
      try {
        return await seen.waitFor({ timeout: 8_000 });
      } catch (late) {
        if (tries === 4) throw late;
      }
    }
  };

  test('runs a mutation and a query', async () => {
    const { page, whole } = await own.window();
    await page.goto('/graphiql');
    await page.locator('.graphiql-query-editor').getByText('submitJob').first().waitFor();
    await page.getByRole('button', { name: /execute/i }).click();
    await result(page).getByText('"DONE"').first().waitFor();
    await tab(page, 'Jobs');
    await execute(page, result(page).getByText('totalCount').first());
    await whole();
  });

  test('a subscription shows events as they come, and the schema is known', async () => {
    const { page, whole } = await own.window();
    await page.goto('/graphiql');
    await page.locator('.graphiql-query-editor').getByText('submitJob').first().waitFor();
    await tab(page, 'Watch');
    // Until the editor has turned to the tab, it is the other one's operation that would be executed.
    await page.locator('.graphiql-query-editor').getByText('jobUpdated').first().waitFor();
    // What is submitted before the server has the subscription is not told: until one is.
    const again = setInterval(() => void submit(own.server, [{ kind: 'echo', payload: {}, displayName: 'seen in GraphiQL' }]), 500);
    try {
      await execute(page, result(page).getByText('seen in GraphiQL').first());
    } finally {
      clearInterval(again);
    }
    await page.getByRole('button', { name: /stop/i }).click();
    await page.getByRole('button', { name: /documentation explorer/i }).click();
    await page.locator('.graphiql-doc-explorer').getByText('Query').first().waitFor();
    await whole();
  });
});
