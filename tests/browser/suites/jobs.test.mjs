// The list of jobs: live, steady, filtered, paged, and changed in bulk.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ask, submit, wait } from '../api.mjs';
import { connected, setUp, until } from '../setup.mjs';

const names = (page) => page.$$eval('#jobs-table tbody .cell-name a', (links) => links.map((link) => link.textContent));

describe('the list of jobs', { concurrency: false }, () => {
  const own = setUp();
  const echo = (name, more = {}) => ({ kind: 'echo', payload: { name }, displayName: name, ...more });

  test('/ leads there; an empty list says so and fills by itself', async () => {
    const { page, whole } = await own.window();
    await page.goto('/');
    assert.equal(new URL(page.url()).pathname, '/ui/jobs');
    await page.getByText('No jobs yet').waitFor();
    await connected(page);
    const [id] = await submit(own.server, [echo('the first')]);
    await page.getByRole('link', { name: 'the first' }).waitFor();
    await page.locator(`[data-id="${id}"][data-status=DONE]`).waitFor();
    await whole();
  });

  test('new jobs gather behind a button and move nothing; shown ones change in place', async () => {
    const [held] = await submit(own.server, [{ kind: 'transcode', payload: { start: 1, end: 4000, pauseSeconds: 0.1 }, displayName: 'held' }]);
    const { page, whole } = await own.window();
    await page.goto('/ui/jobs');
    await connected(page);
    await page.locator(`[data-id="${held}"][data-status=RUNNING]`).waitFor();
    const before = await names(page);
    const place = await page.locator(`[data-id="${held}"]`).boundingBox();
    await submit(own.server, [echo('new one'), echo('new two'), echo('new three')]);
    const fresh = page.getByRole('button', { name: '3 new jobs' });
    await fresh.waitFor();
    await ask(own.server, 'mutation ($id: ID!) { cancelJob(id: $id) { id } }', { id: held });
    await page.locator(`[data-id="${held}"][data-status=CANCELLED]`).waitFor();
    assert.deepEqual(await names(page), before);
    assert.deepEqual(await page.locator(`[data-id="${held}"]`).boundingBox(), place);
    await fresh.click();
    await page.getByRole('link', { name: 'new three' }).waitFor();
    assert.deepEqual((await names(page)).slice(0, 3), ['new three', 'new two', 'new one']);
    await fresh.waitFor({ state: 'detached' });
    await whole();
  });

  test('the filter is kept in the address, and pages turn by cursor', async () => {
    const ids = await submit(own.server, Array.from({ length: 120 }, (_, index) => echo(`paged ${index}`, { clientId: 'pager' })));
    await wait(own.server, ids.at(-1));
    const { page, whole } = await own.window();
    await page.goto('/ui/jobs?client=pager');
    await page.getByText('Showing 50 of 120').waitFor();
    assert.equal((await names(page))[0], 'paged 119');
    await page.getByRole('button', { name: 'Older' }).click();
    await page.getByRole('link', { name: 'paged 69', exact: true }).waitFor();
    await page.getByRole('button', { name: 'Older' }).click();
    await page.getByText('Showing 20 of 120').waitFor();
    const last = page.url();
    await page.reload();
    await page.getByRole('link', { name: 'paged 0', exact: true }).waitFor();
    assert.equal(page.url(), last);
    await page.getByRole('button', { name: 'Newer' }).click();
    await page.getByRole('link', { name: 'paged 69', exact: true }).waitFor();
    await page.goBack();
    await page.getByRole('link', { name: 'paged 0', exact: true }).waitFor();
    await page.getByRole('button', { name: 'Newest' }).click();
    await page.getByRole('link', { name: 'paged 119', exact: true }).waitFor();

    await page.getByRole('button', { name: 'Error' }).click();
    await page.getByRole('button', { name: 'Cancelled' }).click();
    await page.waitForURL('**/ui/jobs?status=error,cancelled&client=pager');
    await page.getByText('No job matches').waitFor();
    await page.getByRole('button', { name: 'Clear the filter' }).click();
    await page.locator('summary', { hasText: 'Kind' }).click();
    await page.getByLabel('transcode').check();
    await page.waitForURL('**/ui/jobs?kind=transcode');
    await page.getByText('Showing 1 of 1').waitFor();
    await whole();
  });

  test('a job’s id in the box leads to the job', async () => {
    const [id] = await submit(own.server, [echo('found')]);
    const { page, whole } = await own.window();
    await page.goto('/ui/jobs');
    await page.getByLabel('Client id, or a job’s id').waitFor();
    await page.keyboard.press('/');
    await page.keyboard.type(id);
    await page.waitForURL(`**/ui/jobs/${id}`);
    await page.getByRole('heading', { name: 'found', level: 1 }).waitFor();
    await whole();
  });

  test('selected jobs, or all that match, are changed once it was said how many', async () => {
    const waiting = Array.from({ length: 60 }, (_, index) => ({
      kind: 'archive',
      payload: {},
      displayName: `bulk ${index}`,
      clientId: 'bulk',
    }));
    await submit(own.server, waiting);
    const { page, whole } = await own.window();
    const status = async (name) => {
      const query = '{ jobs(clientId: "bulk", first: 200) { nodes { displayName status } } }';
      return (await ask(own.server, query)).jobs.nodes.find((job) => job.displayName === name)?.status;
    };
    await page.goto('/ui/jobs?client=bulk');
    await page.getByText('Showing 50 of 60').waitFor();
    await page.getByLabel('Select bulk 59').check();
    await page.getByLabel('Select bulk 58').check();
    await page.getByRole('button', { name: 'Cancel…' }).click();
    await page.getByRole('dialog', { name: 'Cancel 2 jobs?' }).waitFor();
    await page.getByRole('button', { name: 'Keep as is' }).click();
    assert.equal(await status('bulk 59'), 'PENDING');
    await page.getByRole('button', { name: 'Cancel…' }).click();
    await page.getByRole('button', { name: 'Cancel 2 jobs' }).click();
    await page.getByText('2 jobs cancelled.').waitFor();
    assert.equal(await status('bulk 59'), 'CANCELLED');

    await page.getByLabel('Select all jobs on this page').check();
    await page.getByRole('button', { name: 'Select all 60 that match' }).click();
    await page.getByRole('button', { name: 'Cancel…' }).click();
    await page.getByRole('dialog', { name: 'Cancel 58 jobs?' }).getByText('the other 2 cannot be cancelled').waitFor();
    await page.getByRole('button', { name: 'Cancel 58 jobs' }).click();
    await page.getByText('58 jobs cancelled.').waitFor();
    assert.equal(await status('bulk 0'), 'CANCELLED');

    await page.getByLabel('Select bulk 59').check();
    await page.getByRole('button', { name: 'Retry…' }).click();
    await page.getByRole('button', { name: 'Retry 1 job' }).click();
    await page.getByText('1 job retried.').waitFor();
    await page.locator('tr', { hasText: 'bulk 59' }).getByText('Pending').waitFor();

    await page.getByLabel('Select bulk 57').check();
    await page.getByRole('button', { name: 'Delete…' }).click();
    await page.getByRole('button', { name: 'Delete 1 job' }).click();
    await page.locator('tr', { hasText: 'bulk 57' }).getByText('Deleted').waitFor();
    assert.equal(await status('bulk 57'), undefined);
    await whole();
  });

  test('paused, nothing changes; going on brings what happened', async () => {
    const [id] = await submit(own.server, [{ kind: 'archive', payload: {}, displayName: 'kept still', clientId: 'pause' }]);
    const { page, whole } = await own.window();
    await page.goto('/ui/jobs?client=pause');
    await connected(page);
    await page.locator(`[data-id="${id}"]`).waitFor();
    await page.getByRole('button', { name: 'Live' }).click();
    await ask(own.server, 'mutation ($id: ID!) { cancelJob(id: $id) { id } }', { id });
    // What another window sees live has passed this one by.
    const other = await own.window();
    await other.page.goto('/ui/jobs?client=pause');
    await other.page.locator(`[data-id="${id}"][data-status=CANCELLED]`).waitFor();
    assert.equal(await page.locator(`[data-id="${id}"]`).getAttribute('data-status'), 'PENDING');
    await page.getByRole('button', { name: 'Paused' }).click();
    await page.locator(`[data-id="${id}"][data-status=CANCELLED]`).waitFor();
    await other.whole();
    await whole();
  });

  test('10,000 jobs run past while one reads', async () => {
    const [shown] = await submit(own.server, [echo('what one reads')]);
    await wait(own.server, shown);
    const { page, whole } = await own.window();
    await page.goto('/ui/jobs');
    await connected(page);
    await page.locator(`[data-id="${shown}"][data-status=DONE]`).waitFor();
    const before = await names(page);
    // The longest time in which the page answered nothing.
    await page.evaluate(() => {
      window.longest = 0;
      let last = performance.now();
      setInterval(() => {
        const now = performance.now();
        window.longest = Math.max(window.longest, now - last - 20);
        last = now;
      }, 20);
    });
    const ids = await submit(own.server, Array.from({ length: 10_000 }, (_, index) => ({ kind: 'echo', payload: index })));
    await until('the last has run', async () => (await wait(own.server, ids.at(-1))).job.status === 'DONE', 120);
    await page.getByRole('button', { name: '1,000+ new jobs' }).waitFor();
    assert.deepEqual(await names(page), before);
    const longest = await page.evaluate(() => window.longest);
    // Generous, as the server, its database and the browser share the cores.
    assert.ok(longest < 1_500, `the page stood still for ${Math.round(longest)} ms`);
    const rows = await page.locator('#jobs-table tbody tr').count();
    assert.ok(rows <= 50, `${rows} rows`);
    await page.getByRole('button', { name: '1,000+ new jobs' }).click();
    await page.locator(`[data-id="${ids.at(-1)}"][data-status=DONE]`).waitFor();
    await whole();
  });
});
