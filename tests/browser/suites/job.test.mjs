// The page of one job, opened before, during and after its run.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ask, submit, wait } from '../api.mjs';
import { connected, setUp } from '../setup.mjs';

const status = (page, word) => page.locator(`.job-under [data-status=${word}]`).waitFor();

describe('the page of a job', { concurrency: false }, () => {
  const own = setUp();

  test('opened while it waits, it shows place, run and result', async () => {
    await ask(own.server, 'mutation { pauseQueue(name: "media") { name } }');
    const ids = await submit(
      own.server,
      [1, 2, 3].map((number) => ({ kind: 'transcode', payload: { start: 1, end: 10, pauseSeconds: 0.1 }, displayName: `film ${number}` })),
    );
    const { page, whole } = await own.window();
    await page.goto(`/ui/jobs/${ids[2]}`);
    await page.getByText('Number 3 in the queue').waitFor();
    await page.getByText('Its queue is paused.').waitFor();
    await ask(own.server, 'mutation ($id: ID!) { cancelJob(id: $id) { id } }', { id: ids[0] });
    await page.locator('[data-position="2"]').waitFor();
    await ask(own.server, 'mutation { resumeQueue(name: "media") { name } }');
    await page.getByRole('progressbar').waitFor();
    await status(page, 'DONE');
    await page.getByLabel('Result', { exact: true }).getByText('55').waitFor();
    await page.getByRole('list', { name: 'Attempts that have ended' }).getByText('Done').waitFor();
    await whole();
  });

  test('opened while it runs and after its end, it ends the same', async () => {
    const [id] = await submit(own.server, [{ kind: 'import', payload: { lines: 150, pause: 0.1 }, displayName: 'orders.csv' }]);
    const first = await own.window();
    await first.page.goto(`/ui/jobs/${id}`);
    await first.page.getByText('order 00001: checked').waitFor();
    await status(first.page, 'RUNNING');
    await wait(own.server, id);
    const second = await own.window();
    await second.page.goto(`/ui/jobs/${id}`);
    for (const { page } of [first, second]) {
      await status(page, 'DONE');
      // The log is followed to its end, and every line is there once.
      await page.getByText('order 00150: checked').waitFor();
      const lines = await page.$$eval('.log-line span', (spans) => spans.map((span) => span.textContent));
      const numbers = lines.map((line) => Number(/^order (\d+)/.exec(line)?.[1])).filter((number) => number > 0);
      assert.deepEqual(numbers, Array.from({ length: 150 }, (_, index) => index + 1));
      const { atEnd, scrolls } = await page.$eval('.logs', (box) => ({
        atEnd: box.scrollHeight - box.scrollTop - box.clientHeight < 30,
        scrolls: box.scrollHeight > box.clientHeight,
      }));
      assert.ok(scrolls && atEnd, 'the end of the log is in sight');
      // A double would say …992.
      await page.getByLabel('Result', { exact: true }).getByText('9007199254740993').waitFor();
      assert.equal(lines.filter((line) => line.includes('"checksum"')).length, 1);
    }
    await first.whole();
    await second.whole();
  });

  test('each failed attempt is told with its error; a retry starts over', async () => {
    const [id] = await submit(own.server, [{ kind: 'import', payload: { lines: 5, failAt: 3 }, displayName: 'bad.csv', maxAttempts: 2 }]);
    await wait(own.server, id);
    const { page, whole } = await own.window();
    await page.goto(`/ui/jobs/${id}`);
    await status(page, 'ERROR');
    await page.getByText('attempts used up').waitFor();
    assert.equal(await page.locator('.attempts li').count(), 2);
    await page.locator('.attempts li', { hasText: 'order 00003 has no customer' }).first().waitFor();
    await page.getByText('Attempt 2', { exact: true }).waitFor();
    await page.getByRole('button', { name: 'Retry' }).click();
    await page.locator('.attempts li').nth(3).waitFor();
    await status(page, 'ERROR');
    await whole();
  });

  test('cancel asks first; another window sees it; delete leads to the list', async () => {
    const [id] = await submit(own.server, [{ kind: 'archive', payload: { big: 1 }, displayName: 'not wanted' }]);
    const one = await own.window();
    const two = await own.window();
    for (const { page } of [one, two]) {
      await page.goto(`/ui/jobs/${id}`);
      await page.getByText('No live worker serves its queue.').waitFor();
    }
    await one.page.getByRole('button', { name: 'Cancel…' }).click();
    await one.page.getByRole('button', { name: 'Cancel the job' }).click();
    for (const { page } of [one, two]) await status(page, 'CANCELLED');
    // The stream has ended; a retry elsewhere shows nevertheless.
    await two.page.getByRole('button', { name: 'Retry' }).click();
    await status(two.page, 'PENDING');
    await status(one.page, 'PENDING');
    await one.page.getByRole('button', { name: 'Cancel…' }).click();
    await one.page.getByRole('button', { name: 'Cancel the job' }).click();
    await one.page.getByRole('button', { name: 'Delete…' }).click();
    await one.page.getByRole('button', { name: 'Delete the job' }).click();
    await one.page.waitForURL('**/ui/jobs');
    await one.page.goto(`/ui/jobs/${id}`);
    await one.page.getByText('There is no such job').waitFor();
    await one.whole();
    await two.whole();
  });

  test('a start in the future is shown and can be now', async () => {
    const runAt = new Date(Date.now() + 3_600_000).toISOString();
    const [id] = await submit(own.server, [{ kind: 'echo', payload: 'soon', runAt }]);
    const { page, whole } = await own.window();
    await page.goto(`/ui/jobs/${id}`);
    await page.getByText('Its time has not come.').waitFor();
    await page.getByRole('button', { name: 'Run now' }).click();
    await status(page, 'DONE');
    await whole();
  });

  test('it is copied as GraphQL and as curl, and the curl command works', async () => {
    const [id] = await submit(own.server, [{ kind: 'echo', payload: { text: "it's 100 %", big: 1 }, displayName: 'copied' }]);
    await wait(own.server, id);
    const { page, whole, context } = await own.window();
    await context.grantPermissions(['clipboard-read', 'clipboard-write']);
    await page.goto(`/ui/jobs/${id}`);
    await page.getByRole('button', { name: 'Copy as GraphQL' }).click();
    await page.getByText('GraphQL copied.').waitFor();
    assert.match(await page.evaluate(() => navigator.clipboard.readText()), /mutation Submit/);
    await page.getByRole('button', { name: 'Copy as curl' }).click();
    await page.getByText('curl command copied.').waitFor();
    const command = await page.evaluate(() => navigator.clipboard.readText());
    const { execSync } = await import('node:child_process');
    const answer = JSON.parse(execSync(command, { encoding: 'utf8' }));
    assert.equal(answer.data.submitJob.created, true);
    await whole();
  });

  test('no such job, and no such page', async () => {
    const { page, whole } = await own.window();
    for (const id of ['01a20429-ebc1-7626-aa46-8707a4ac544c', 'nonsense']) {
      await page.goto(`/ui/jobs/${id}`);
      await page.getByText('There is no such job').waitFor();
    }
    await page.goto('/ui/nowhere');
    await page.getByText('There is no such page').waitFor();
    await connected(page);
    await whole();
  });
});
