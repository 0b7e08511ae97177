// Queues and workers: what is in them, the switches, the warning.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ask, submit, wait } from '../api.mjs';
import { connected, setUp, until } from '../setup.mjs';

describe('queues and workers', { concurrency: false }, () => {
  const own = setUp();

  test('counts are live; a queue with jobs and no worker is warned of', async () => {
    const { page, whole } = await own.window();
    await page.goto('/ui/queues');
    await connected(page);
    const archive = page.locator('[data-queue=archive]');
    await archive.getByText('0 live workers').waitFor();
    assert.equal(await archive.locator('.warning').count(), 0);
    await submit(own.server, [{ kind: 'archive', payload: {} }]);
    await archive.getByText('A job waits, and no live worker serves this queue.').waitFor();
    await archive.locator('.count', { hasText: 'Pending' }).getByText('1').waitFor();
    await archive.getByText('What comes next').click();
    await archive.locator('.upcoming li').getByRole('link', { name: 'archive' }).waitFor();
    await archive.locator('.count', { hasText: 'Pending' }).getByRole('link').click();
    await page.waitForURL('**/ui/jobs?queue=archive&status=pending');
    await whole();
  });

  test('pause asks first and resume does not; both are seen in another window', async () => {
    const one = await own.window();
    const two = await own.window();
    for (const { page } of [one, two]) {
      await page.goto('/ui/queues');
      await connected(page);
    }
    const queue = one.page.locator('[data-queue=numbers]');
    await queue.getByRole('button', { name: 'Pause…' }).click();
    await one.page.getByRole('button', { name: 'Pause the queue' }).click();
    await two.page.locator('[data-queue=numbers]').getByText('Paused', { exact: true }).waitFor();
    await submit(own.server, [{ kind: 'sum', payload: { start: 1, end: 2 } }]);
    await two.page.locator('[data-queue=numbers] .count', { hasText: 'Pending' }).getByText('1').waitFor();
    await queue.getByRole('button', { name: 'Resume' }).click();
    await two.page.locator('[data-queue=numbers] .count', { hasText: 'Done' }).getByText('1').waitFor();
    await one.whole();
    await two.whole();
  });

  test('order and limit are set, and a bad limit is not', async () => {
    const { page, whole } = await own.window();
    await page.goto('/ui/queues');
    const queue = page.locator('[data-queue=media]');
    await queue.getByRole('button', { name: 'Settings…' }).click();
    await page.getByLabel('Of one priority').selectOption('LIFO');
    await page.getByLabel('Jobs that run at once').fill('none');
    await page.getByText('A whole number from 1').waitFor();
    assert.ok(await page.getByRole('button', { name: 'Set', exact: true }).isDisabled());
    await page.getByLabel('Jobs that run at once').fill('3');
    await page.getByRole('button', { name: 'Set', exact: true }).click();
    await queue.getByText('At most 3 at once').waitFor();
    await queue.getByText('Newest first').waitFor();
    const { queue: set } = await ask(own.server, '{ queue(name: "media") { order maxRunning } }');
    assert.deepEqual(set, { order: 'LIFO', maxRunning: 3 });
    await queue.getByRole('button', { name: 'Settings…' }).click();
    await page.getByLabel('Jobs that run at once').fill('');
    await page.getByRole('button', { name: 'Set', exact: true }).click();
    await queue.getByText('At most 3 at once').waitFor({ state: 'detached' });
    await whole();
  });

  test('charts are drawn from the samples', async () => {
    const ids = await submit(own.server, Array.from({ length: 20 }, () => ({ kind: 'echo', payload: {} })));
    await wait(own.server, ids.at(-1));
    const { page, whole } = await own.window();
    await page.goto('/ui/queues');
    const chart = page.locator('[data-queue=numbers] .chart').nth(1);
    await chart.locator('canvas').waitFor();
    // Workers write what they have done every two seconds; the page reads it twice a minute.
    await chart.getByText(/At the end: Ended a minute [1-9]/).waitFor({ state: 'attached', timeout: 60_000 });
    const legend = () => chart.locator('.u-legend').innerText();
    assert.match(await legend(), /\d\d:\d\d\s*Ended a minute\s*\d/, 'the newest values, without a pointer');
    await chart.locator('.u-over').hover({ position: { x: 5, y: 40 } });
    await until('the values at the pointer', async () => /Ended a minute\s*0/.test(await legend()));
    await page.getByRole('heading', { name: 'Queues' }).hover();
    await until('the newest ones again', async () => /Ended a minute\s*[1-9]/.test(await legend()));
    await page.getByRole('button', { name: '1 day' }).click();
    await chart.locator('canvas').waitFor();
    assert.ok(!(await legend()).includes('--'));
    await whole();
  });

  test('workers are shown with what they hold', async () => {
    const [id] = await submit(own.server, [{ kind: 'sleep', payload: { seconds: 60 }, displayName: 'a long nap' }]);
    const { page, whole } = await own.window();
    await page.goto('/ui/workers');
    await page.getByText('1 live, 1 of 8 slots in use').waitFor();
    const worker = page.locator('.worker');
    await worker.getByText('Live', { exact: true }).waitFor();
    await worker.getByRole('link', { name: 'a long nap' }).click();
    await page.waitForURL(`**/ui/jobs/${id}`);
    await ask(own.server, 'mutation ($id: ID!) { cancelJob(id: $id) { id } }', { id });
    await page.locator('.job-under [data-status=CANCELLED]').waitFor();
    await whole();
  });
});
