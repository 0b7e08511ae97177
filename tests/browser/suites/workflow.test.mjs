// A workflow as a graph that is live, small and large, and what is done to the whole.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ask, submitWorkflow } from '../api.mjs';
import { connected, setUp, until } from '../setup.mjs';

const PAUSE = 'mutation ($name: String!) { pauseQueue(name: $name) { name } }';
const RESUME = 'mutation ($name: String!) { resumeQueue(name: $name) { name } }';
const status = (page, word) => page.locator(`.job-under [data-status=${word}]`).waitFor();
const node = (page, name) => page.locator('.node', { has: page.getByText(name, { exact: true }) });
const fourJobs = (kind) => [
  { key: 'split', kind, displayName: 'split' },
  { key: 'left', kind, displayName: 'left', dependsOn: ['split'] },
  { key: 'right', kind, displayName: 'right', dependsOn: ['split'] },
  { key: 'join', kind, displayName: 'join', dependsOn: ['left', 'right'] },
];

describe('the page of a workflow', { concurrency: false }, () => {
  const own = setUp();
  const jobsOf = async (id) => {
    const { jobs } = await ask(own.server, 'query ($id: ID!) { jobs(workflowId: $id, first: 200) { nodes { id workflowKey status } } }', { id });
    return Object.fromEntries(jobs.nodes.map((job) => [job.workflowKey, job]));
  };

  test('a small one shows each job where it belongs, and what becomes of it', async () => {
    await ask(own.server, PAUSE, { name: 'numbers' });
    const id = await submitWorkflow(own.server, { name: 'nightly report', jobs: fourJobs('echo') });
    const { page, whole } = await own.window();
    await page.goto(`/ui/workflows/${id}`);
    await page.getByRole('heading', { name: 'nightly report' }).waitFor();
    await connected(page);
    await page.locator('.node').nth(3).waitFor();
    const boxes = Object.fromEntries(await Promise.all(['split', 'left', 'right', 'join'].map(async (name) => [name, await node(page, name).boundingBox()])));
    assert.ok(boxes.split.x + boxes.split.width < boxes.left.x && boxes.left.x + boxes.left.width < boxes.join.x, 'what is first stands on the left');
    assert.equal(boxes.left.x, boxes.right.x);
    assert.ok(Math.abs(boxes.left.y - boxes.right.y) >= boxes.left.height, 'no node covers another');
    assert.equal(await page.locator('.line').count(), 4);
    assert.equal(await node(page, 'split').getAttribute('data-status'), 'PENDING');
    assert.equal(await node(page, 'join').getAttribute('data-status'), 'BLOCKED');
    await status(page, 'RUNNING');
    await page.getByText('0 of 4 jobs done').waitFor();

    await ask(own.server, RESUME, { name: 'numbers' });
    for (const name of ['split', 'left', 'right', 'join']) await page.locator(`.node[data-status=DONE][title=${name}]`).waitFor();
    await status(page, 'DONE');
    await page.getByText('4 of 4 jobs done').waitFor();
    await until('all lines say so', async () => (await page.locator('.line-met').count()) === 4);
    await until('it took some time', () => page.getByText(/^took \d/).count());
    await whole();
  });

  test('a job leads to its workflow, what it waits for and what waits for it, and back', async () => {
    const id = await submitWorkflow(own.server, { name: 'to and fro', jobs: fourJobs('archive') });
    const jobs = await jobsOf(id);
    const { page, whole } = await own.window();
    await page.goto(`/ui/workflows/${id}`);
    await node(page, 'left').click();
    await page.waitForURL(`**/ui/jobs/${jobs.left.id}`);
    await page.getByText('It depends on jobs that are not done.').waitFor();
    const before = page.getByRole('list', { name: 'Waits for', exact: true });
    const after = page.getByRole('list', { name: 'Waited for by' });
    await before.getByRole('link', { name: 'split' }).waitFor();
    await after.getByRole('link', { name: 'join' }).waitFor();
    await before.getByText('Pending').waitFor();
    await ask(own.server, 'mutation ($id: ID!) { cancelJob(id: $id) { id } }', { id: jobs.split.id });
    await before.getByText('Cancelled').waitFor();
    await page.getByText('A job that it depends on has failed.').waitFor();
    await page.getByRole('region', { name: 'Workflow' }).getByRole('link', { name: 'to and fro' }).click();
    await page.waitForURL(`**/ui/workflows/${id}`);
    await status(page, 'CANCELLED');
    await until('both lines say so', async () => (await page.locator('.line-failed').count()) === 2);
    // By its id one gets there too.
    await page.goto('/ui/jobs');
    await page.getByLabel('Client id, or a job’s id').fill(id);
    await page.waitForURL(`**/ui/workflows/${id}`);
    await whole();
  });

  test('by keyboard: one stop, then along the lines', async () => {
    const id = await submitWorkflow(own.server, { name: 'walked', jobs: fourJobs('archive') });
    const jobs = await jobsOf(id);
    const { page, whole } = await own.window();
    await page.goto(`/ui/workflows/${id}`);
    await node(page, 'split').focus();
    const here = () => page.evaluate(() => document.activeElement?.querySelector('.node-name')?.textContent);
    await page.keyboard.press('ArrowRight');
    const first = await here();
    assert.ok(['left', 'right'].includes(first), first);
    await page.keyboard.press(first === 'left' ? 'ArrowDown' : 'ArrowUp');
    const second = await here();
    assert.deepEqual([first, second].sort(), ['left', 'right']);
    await page.keyboard.press('ArrowRight');
    assert.equal(await here(), 'join');
    await page.keyboard.press('Home');
    assert.equal(await here(), 'split');
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement?.closest('.graph') === null), true, 'Tab leaves the graph');
    await node(page, 'join').focus();
    await page.getByRole('link', { name: /^join\s*Blocked\s*archive\s*after (left, right|right, left)$/ }).waitFor();
    await page.keyboard.press('Enter');
    await page.waitForURL(`**/ui/jobs/${jobs.join.id}`);
    await whole();
  });

  test('cancel and retry of the whole say first how many jobs that is', async () => {
    const id = await submitWorkflow(own.server, { jobs: fourJobs('archive') });
    const one = await own.window();
    const two = await own.window();
    for (const { page } of [one, two]) {
      await page.goto(`/ui/workflows/${id}`);
      await page.getByRole('heading', { name: `Workflow ${id.slice(-8)}` }).waitFor();
      await page.locator('.node').nth(3).waitFor();
      await connected(page);
    }
    await one.page.getByRole('button', { name: 'Cancel…' }).click();
    await one.page.getByRole('heading', { name: 'Cancel 4 jobs of this workflow?' }).waitFor();
    await one.page.getByRole('button', { name: 'Keep as is' }).click();
    assert.equal((await jobsOf(id)).split.status, 'PENDING');
    await one.page.getByRole('button', { name: 'Cancel…' }).click();
    await one.page.getByRole('button', { name: 'Cancel 4 jobs' }).click();
    for (const { page } of [one, two]) {
      await status(page, 'CANCELLED');
      await page.locator('.node[data-status=CANCELLED]').nth(3).waitFor();
    }
    await two.page.getByRole('button', { name: 'Retry…' }).click();
    await two.page.getByRole('button', { name: 'Retry 4 jobs' }).click();
    for (const { page } of [one, two]) {
      await status(page, 'RUNNING');
      await page.locator('.node[data-status=BLOCKED]').nth(2).waitFor();
      await page.locator('.node[data-status=PENDING][title=split]').waitFor();
    }
    await one.whole();
    await two.whole();
  });

  test('ten thousand jobs are three nodes, live to the end', { timeout: 240_000 }, async () => {
    await ask(own.server, PAUSE, { name: 'numbers' });
    const middle = Array.from({ length: 9_998 }, (_, index) => ({ key: `m${index}`, kind: 'echo', displayName: `part ${index}`, dependsOn: ['first'] }));
    const last = { key: 'last', kind: 'sum', displayName: 'the last', payload: { start: 1, end: 2 }, dependsOn: middle.map(({ key }) => key) };
    const id = await submitWorkflow(own.server, { name: 'fan-out', jobs: [{ key: 'first', kind: 'sum', displayName: 'the first', payload: { start: 1, end: 2 } }, ...middle, last] });
    const { page, whole } = await own.window();
    await page.goto(`/ui/workflows/${id}`);
    const many = page.locator('.node[data-jobs="9998"]');
    await many.waitFor({ timeout: 120_000 });
    assert.equal(await page.locator('.node').count(), 3);
    assert.equal(await page.locator('.line').count(), 2);
    await many.getByText('9,998 × echo').waitFor();
    await many.click();
    const members = page.getByRole('region', { name: '9,998 × echo' });
    await members.getByRole('link', { name: 'part 0', exact: true }).waitFor();
    assert.equal(await members.locator('li').count(), 50);
    await members.getByRole('button', { name: /^Show more/ }).click();
    await until('there are more', async () => (await members.locator('li').count()) === 100);
    await connected(page);
    await ask(own.server, RESUME, { name: 'numbers' });
    // What is listed changes in its place.
    await members.locator('li', { hasText: /^part 0Done/ }).waitFor({ timeout: 120_000 });
    await page.getByText('10,000 of 10,000 jobs done').waitFor({ timeout: 180_000 });
    await status(page, 'DONE');
    await many.getByText('All done').waitFor();
    await members.getByRole('button', { name: 'Close' }).click();
    assert.equal(await members.count(), 0);
    await page.locator('.count', { hasText: 'Done' }).getByRole('link', { name: '10,000' }).click();
    await page.waitForURL(`**/ui/jobs?status=done&workflow=${id}`).catch(() => page.waitForURL(`**/ui/jobs?workflow=${id}&status=done`));
    await page.getByText('Showing 50 of 10,000').waitFor();
    await whole();
  });

  test('the list is filtered by a workflow until one takes that away', async () => {
    const id = await submitWorkflow(own.server, { name: 'filtered', jobs: fourJobs('archive') });
    const { page, whole } = await own.window();
    await page.goto(`/ui/workflows/${id}`);
    await page.getByRole('link', { name: 'As a list' }).click();
    await page.getByText('Showing 4 of 4').waitFor();
    await page.getByRole('link', { name: 'filtered' }).waitFor();
    await page.reload();
    await page.getByText('Showing 4 of 4').waitFor();
    await page.getByRole('button', { name: 'Not only of filtered' }).click();
    await page.waitForURL('**/ui/jobs');
    await page.getByText(/Showing 50 of 10,/).waitFor();
    await whole();
  });

  test('hundreds of unlike jobs stay a drawing that one can read', async () => {
    const jobs = Array.from({ length: 300 }, (_, index) => ({
      key: `j${index}`,
      kind: index % 3 === 0 ? 'archive' : 'thumbnail',
      payload: index % 3 === 0 ? {} : { url: 'https://example.com/a.png', width: 320 },
      // Chains of thirty, each tied to the one before it here and there.
      dependsOn: [index % 30 > 0 ? `j${index - 1}` : '', index >= 30 && index % 7 === 0 ? `j${index - 30}` : ''].filter(Boolean),
    }));
    const id = await submitWorkflow(own.server, { name: 'a thicket', jobs });
    const { page, whole } = await own.window();
    await page.goto(`/ui/workflows/${id}`);
    await page.locator('.node').first().waitFor();
    const nodes = await page.locator('.node').count();
    assert.ok(nodes > 1 && nodes <= 80, `${nodes} nodes`);
    const held = await page.$$eval('.node', (all) => all.reduce((sum, one) => sum + Number(one.dataset.jobs ?? 1), 0));
    assert.equal(held, 300, 'every job is in one of them');
    const boxes = await page.$$eval('.graph-nodes li', (all) => all.map((one) => [one.offsetLeft, one.offsetTop, one.offsetWidth, one.offsetHeight]));
    for (const [index, [x, y, width, height]] of boxes.entries()) {
      for (const [left, top] of boxes.slice(index + 1)) {
        assert.ok(Math.abs(left - x) >= width || Math.abs(top - y) >= height, 'no node covers another');
      }
    }
    await whole();
  });

  test('a restart of the server is told, and nothing of the workflow is missed', async () => {
    const id = await submitWorkflow(own.server, { name: 'interrupted', jobs: fourJobs('archive') });
    const { page, whole } = await own.window();
    await page.goto(`/ui/workflows/${id}`);
    await page.locator('.node').nth(3).waitFor();
    await connected(page);
    await own.server.stop('SIGKILL');
    await page.getByText(/Reconnecting in \d+ s/).waitFor();
    assert.equal(await page.locator('.node').count(), 4, 'what is known stays');
    await own.server.start();
    await ask(own.server, 'mutation ($id: ID!) { cancelWorkflow(id: $id) { id } }', { id });
    await page.locator('.node[data-status=CANCELLED]').nth(3).waitFor();
    await status(page, 'CANCELLED');
    await whole();
  });

  test('no such workflow', async () => {
    const { page, whole } = await own.window();
    for (const id of ['01a20429-ebc1-7626-aa46-8707a4ac544c', 'nonsense']) {
      await page.goto(`/ui/workflows/${id}`);
      await page.getByText('There is no such workflow').waitFor();
    }
    await whole();
  });
});
