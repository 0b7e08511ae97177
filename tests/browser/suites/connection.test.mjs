// The server is restarted in the middle: pages come back by themselves and miss nothing.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { submit, wait } from '../api.mjs';
import { FLAGS, connected, setUp, until } from '../setup.mjs';

describe('a restart of the server', { concurrency: false }, () => {
  const own = setUp([...FLAGS, '--lease-seconds', '5']);

  for (const signal of ['SIGTERM', 'SIGKILL']) {
    test(`by ${signal}: the list, a running job and its log recover`, async () => {
      const [waiting] = await submit(own.server, [{ kind: 'archive', payload: {}, displayName: `stays ${signal}` }]);
      const [id] = await submit(own.server, [{ kind: 'import', payload: { lines: 60, pause: 0.5 }, displayName: `import ${signal}` }]);
      const list = await own.window();
      const job = await own.window();
      await list.page.goto('/ui/jobs');
      await job.page.goto(`/ui/jobs/${id}`);
      await connected(list.page);
      await list.page.locator(`[data-id="${id}"][data-status=RUNNING]`).waitFor();
      await job.page.getByText('order 00003: checked').waitFor();
      const order = () => list.page.$$eval('#jobs-table tbody tr', (rows) => rows.map((row) => row.dataset.id));
      const before = await order();

      await own.server.stop(signal);
      for (const { page } of [list, job]) await page.getByText(/Reconnecting in \d+ s/).waitFor();
      await own.server.start();
      const [missed] = await submit(own.server, [{ kind: 'echo', payload: {}, displayName: `meanwhile ${signal}` }]);
      await wait(own.server, missed);
      for (const { page } of [list, job]) await connected(page);

      // The attempt was lost or given back, and the next one ends.
      await job.page.locator('.job-under [data-status=DONE]').waitFor({ timeout: 90_000 });
      await job.page.getByLabel('Result', { exact: true }).getByText('9007199254740993').waitFor();
      await list.page.locator(`[data-id="${id}"][data-status=DONE]`).waitFor();
      // Of each attempt every line is there once.
      const lines = await job.page.$$eval('.log-line', (rows) => rows.map((row) => row.textContent));
      const ended = lines.filter((line) => line.includes('"checksum"'));
      assert.equal(ended.length, 1, `the last line is there ${ended.length} times`);
      assert.deepEqual(await order(), before, 'no row has moved');
      await list.page.getByRole('button', { name: /new job/ }).click();
      await list.page.locator(`[data-id="${missed}"][data-status=DONE]`).waitFor();
      await list.page.locator(`[data-id="${waiting}"][data-status=PENDING]`).waitFor();
      await list.whole();
      await job.whole();
    });
  }

  test('a list that is opened while there is no server comes later', async () => {
    const { page, whole } = await own.window();
    await page.goto('/ui/queues');
    await page.locator('[data-queue=numbers]').waitFor();
    await connected(page);
    await own.server.stop();
    await page.getByRole('link', { name: 'Jobs', exact: true }).click();
    await page.getByText('The server cannot be reached.').waitFor();
    await own.server.start();
    await page.locator('#jobs-table tbody tr').first().waitFor();
    await connected(page);
    await whole();
  });

  test('pages that were never opened show while there is no server, and fill by themselves', async () => {
    const [id] = await submit(own.server, [{ kind: 'archive', payload: {}, displayName: 'opened offline' }]);
    const { page, whole } = await own.window();
    await page.goto('/ui/jobs');
    await connected(page);
    await page.getByRole('link', { name: 'opened offline' }).waitFor();
    // Their code comes when the browser is idle.
    const loaded = () => page.evaluate(() => performance.getEntriesByType('resource').map(({ name }) => name).join());
    await until('the code of all pages is there', async () => {
      const names = await loaded();
      return ['job-', 'workflow-', 'submit-', 'queues-', 'workers-'].every((name) => names.includes(`/ui/assets/${name}`));
    });
    await own.server.stop();
    await page.getByText(/Reconnecting in \d+ s/).waitFor();
    for (const [link, title] of [['Submit', 'Submit a job'], ['Queues', 'Queues'], ['Workers', 'Workers']]) {
      await page.getByRole('link', { name: link, exact: true }).click();
      await page.getByText('The server cannot be reached.').waitFor();
      await page.getByText('Disconnected', { exact: true }).last().waitFor();
      assert.equal(await page.title(), `${link} · jobql`, title);
    }
    await own.server.start();
    await page.locator('.worker').first().waitFor();
    await page.goBack();
    await page.locator('[data-queue=numbers]').waitFor();
    await page.goto(`/ui/jobs/${id}`);
    await page.getByRole('heading', { name: 'opened offline' }).waitFor();
    await whole();
  });

  test('code that does not come is asked for again', async () => {
    const { page, context, whole } = await own.window();
    let refused = 0;
    await context.route('**/ui/assets/queues-*.js', (route) => {
      if (refused >= 2) return route.continue();
      refused += 1;
      return route.abort();
    });
    await page.goto('/ui/queues');
    await page.locator('[data-queue=numbers]').waitFor();
    assert.equal(refused, 2);
    await whole();
  });
});
