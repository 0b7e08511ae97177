// For everyone: by keyboard alone, by screen reader (as far as axe-core can tell), in light and in dark, on a phone.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { before, describe, test } from 'node:test';
import { submit, submitWorkflow, wait } from '../api.mjs';
import { connected, setUp } from '../setup.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

describe('access', { concurrency: false }, () => {
  const own = setUp();
  let failed;
  let done;
  let workflow;
  before(async () => {
    const jobs = [
      { kind: 'import', payload: { lines: 5, failAt: 3 }, maxAttempts: 1, displayName: 'fails' },
      { kind: 'import', payload: { lines: 20 }, displayName: 'works' },
      { kind: 'archive', payload: {}, displayName: 'waits' },
      { kind: 'transcode', payload: { start: 1, end: 4000, pauseSeconds: 0.2 }, displayName: 'runs' },
      { kind: 'echo', payload: {}, displayName: 'later', runAt: new Date(Date.now() + 3_600_000).toISOString() },
    ];
    [failed, done] = await submit(own.server, jobs);
    const parts = Array.from({ length: 20 }, (_, index) => ({ key: `part ${index}`, kind: index % 2 ? 'archive' : 'echo', dependsOn: ['fails'] }));
    workflow = await submitWorkflow(own.server, {
      name: 'a workflow',
      jobs: [
        { key: 'works', kind: 'echo', displayName: 'prepares' },
        { key: 'fails', kind: 'invoice', displayName: 'breaks', dependsOn: ['works'] },
        { key: 'runs', kind: 'transcode', displayName: 'goes on', payload: { start: 1, end: 4000, pauseSeconds: 0.2 } },
        ...parts,
      ],
    });
    await wait(own.server, failed);
    await wait(own.server, done);
  });

  const pages = {
    'the list': ['/ui/jobs', (page) => page.getByRole('link', { name: 'works' }).waitFor()],
    'a selection': [
      '/ui/jobs',
      async (page) => {
        await page.getByLabel('Select waits').check();
        await page.getByRole('button', { name: 'Cancel…' }).click();
        await page.getByRole('dialog').waitFor();
      },
    ],
    'a failed job': [() => `/ui/jobs/${failed}`, (page) => page.getByText('attempts used up').waitFor()],
    'a done job': [() => `/ui/jobs/${done}`, (page) => page.getByLabel('Log lines').waitFor()],
    'a workflow': [
      () => `/ui/workflows/${workflow}`,
      async (page) => {
        await page.locator('.node[data-status=ERROR]').waitFor();
        await page.locator('.node[data-status=RUNNING] .node-progress').waitFor();
        await page.locator('.node[data-jobs="10"]').first().click();
        await page.getByRole('region', { name: /^10 × / }).getByRole('link').first().waitFor();
      },
    ],
    submitting: ['/ui/submit?kind=thumbnail', (page) => page.getByRole('button', { name: 'Submit', exact: true }).click().then(() => page.getByText('This field is required.').waitFor())],
    'submitting JSON': ['/ui/submit?kind=echo', (page) => page.getByRole('textbox', { name: 'Payload' }).fill('{').then(() => page.getByText('Line 1').waitFor())],
    queues: ['/ui/queues', (page) => page.locator('[data-queue=archive] canvas').first().waitFor()],
    workers: ['/ui/workers', (page) => page.locator('.worker').waitFor()],
    'no page': ['/ui/nowhere', (page) => page.getByText('There is no such page').waitFor()],
  };

  for (const [name, [path, ready]] of Object.entries(pages)) {
    for (const colorScheme of ['light', 'dark']) {
      test(`axe-core finds nothing serious in ${name}, ${colorScheme}`, async () => {
        const { page, whole } = await own.window({ colorScheme, reducedMotion: 'reduce' });
        await page.goto(typeof path === 'function' ? path() : path);
        await connected(page);
        await ready(page);
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
        const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
        const told = serious.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html} ${node.failureSummary}`).join('\n')}`);
        assert.deepEqual(told, []);
        await whole();
      });
    }
  }

  for (const [name, width] of Object.entries({ phone: 360, laptop: 1280, wide: 2200 })) {
    test(`nothing is cut off sideways on a ${name}`, async () => {
      const { page, whole } = await own.window({ viewport: { width, height: 800 } });
      for (const path of ['/ui/jobs', `/ui/jobs/${failed}`, `/ui/workflows/${workflow}`, '/ui/submit?kind=thumbnail', '/ui/queues', '/ui/workers']) {
        await page.goto(path);
        await page.getByRole('heading', { level: 1 }).waitFor();
        const { scrollWidth, clientWidth } = await page.evaluate(() => document.documentElement);
        const [whole, seen] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
        assert.ok(whole <= seen, `${path} is ${whole} wide in ${seen} (${scrollWidth}, ${clientWidth})`);
      }
      await whole();
    });
  }

  test('by keyboard alone: skip, filter, walk, open, retry', async () => {
    const { page, whole } = await own.window();
    await page.goto('/ui/jobs');
    await connected(page);
    await page.getByRole('link', { name: 'works' }).waitFor();
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement?.textContent?.trim()), 'Skip to the content');
    await page.keyboard.press('Enter');
    assert.equal(await page.evaluate(() => document.activeElement?.id), 'main');
    await page.keyboard.press('/');
    assert.equal(await page.evaluate(() => document.activeElement?.id), 'find');
    await page.keyboard.press('Escape');
    await page.keyboard.press('Tab');
    await page.keyboard.press('j');
    await page.keyboard.press('j');
    const second = await page.$eval('#jobs-table tbody tr:nth-child(2) a', (link) => link === document.activeElement);
    assert.ok(second, 'j goes down the list');
    await page.keyboard.press('x');
    await page.getByText('1 job selected').waitFor();
    await page.keyboard.press('x');
    await page.getByText('1 job selected').waitFor({ state: 'detached' });
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.equal(outline, 'solid', 'one sees where one is');
    // To the failed job, and retry it.
    while (!(await page.evaluate(() => document.activeElement?.textContent?.includes('fails')))) await page.keyboard.press('j');
    await page.keyboard.press('Enter');
    await page.waitForURL(`**/ui/jobs/${failed}`);
    await page.getByRole('button', { name: 'Retry' }).focus();
    await page.keyboard.press('Enter');
    await page.locator('.attempts li').nth(1).waitFor();
    await whole();
  });

  test('light and dark follow the system until one chooses, and then the choice', async () => {
    const { page, whole } = await own.window({ colorScheme: 'dark' });
    await page.goto('/ui/jobs');
    const ground = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
    assert.equal(await ground(), 'rgb(19, 20, 22)');
    await page.getByRole('button', { name: 'Light colours' }).click();
    assert.equal(await ground(), 'rgb(246, 245, 242)');
    await page.reload();
    await page.getByRole('button', { name: 'Dark colours' }).waitFor();
    assert.equal(await ground(), 'rgb(246, 245, 242)');
    await whole();
  });
});
