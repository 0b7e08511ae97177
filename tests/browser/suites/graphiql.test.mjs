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

  test('runs a mutation and a query', async () => {
    const { page, whole } = await own.window();
    await page.goto('/graphiql');
    await page.locator('.graphiql-query-editor').getByText('submitJob').first().waitFor();
    await page.getByRole('button', { name: /execute/i }).click();
    await result(page).getByText('"DONE"').first().waitFor();
    await tab(page, 'Jobs');
    await page.getByRole('button', { name: /execute/i }).click();
    await result(page).getByText('totalCount').first().waitFor();
    await whole();
  });

  test('a subscription shows events as they come, and the schema is known', async () => {
    const { page, whole } = await own.window();
    await page.goto('/graphiql');
    await page.locator('.graphiql-query-editor').getByText('submitJob').first().waitFor();
    await tab(page, 'Watch');
    // Until the editor has turned to the tab, it is the other one's operation that would be executed.
    await page.locator('.graphiql-query-editor').getByText('jobUpdated').first().waitFor();
    await page.getByRole('button', { name: /execute/i }).click();
    await page.getByRole('button', { name: /stop/i }).waitFor();
    // What is submitted before the server has the subscription is not told: until one is.
    const again = setInterval(() => void submit(own.server, [{ kind: 'echo', payload: {}, displayName: 'seen in GraphiQL' }]), 500);
    try {
      await result(page).getByText('seen in GraphiQL').first().waitFor();
    } finally {
      clearInterval(again);
    }
    await page.getByRole('button', { name: /stop/i }).click();
    await page.getByRole('button', { name: /documentation explorer/i }).click();
    await page.locator('.graphiql-doc-explorer').getByText('Query').first().waitFor();
    await whole();
  });
});
