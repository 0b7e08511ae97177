// Signing in and out with tokens that were made on the command line, and what is offered to whom.

import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { ask, newToken, revokeToken, submit } from '../api.mjs';
import { CONFIGURATION, connected, setUp, until } from '../setup.mjs';

const REFUSED = 'The server does not take this token';
const ENDED = 'You were signed out';

async function signIn(page, token, remember = false) {
  await page.getByLabel('Token', { exact: true }).fill(token);
  if (remember) await page.getByLabel('Remember it').check();
  await page.getByRole('button', { name: 'Sign in' }).click();
}

const asked = (page) => page.getByRole('heading', { name: 'Sign in' }).waitFor();
const isRefused = async (server, token = null) => {
  const headers = { 'content-type': 'application/json', ...(token ? { authorization: `Bearer ${token}` } : {}) };
  const response = await fetch(server.url, { method: 'POST', headers, body: '{"query": "{ __typename }"}' });
  return response.status === 401;
};

describe('tokens', { concurrency: false }, () => {
  const own = setUp();
  let operator;
  before(async () => {
    operator = newToken(own.server, '--scope', 'operator', '--name', 'operator');
    await until('the door is closed', () => isRefused(own.server));
  });

  test('without a token one is asked for it; a bad one is told; a good one leads on, for this tab', async () => {
    const expired = newToken(own.server, '--scope', 'operator', '--expires-in', '1s');
    await until('it has expired', () => isRefused(own.server, expired));
    const { page, context, whole } = await own.window();
    await page.goto('/ui/queues');
    await asked(page);
    assert.equal(await page.getByText(REFUSED).count(), 0, 'nobody has been refused yet');
    for (const bad of ['nonsense', `${operator.slice(0, -4)}AAAA`, expired]) {
      await signIn(page, bad);
      await page.getByText(REFUSED).waitFor();
      assert.equal(await page.getByLabel('Token', { exact: true }).getAttribute('aria-invalid'), 'true');
    }
    await signIn(page, operator);
    await page.locator('[data-queue=numbers]').waitFor();
    await connected(page);
    await page.getByText('Operator', { exact: true }).waitFor();
    await page.reload();
    await page.locator('[data-queue=numbers]').waitFor();
    const other = await context.newPage();
    await other.goto(`${own.origin}/ui/jobs`);
    await asked(other);
    await page.getByRole('button', { name: 'Sign out' }).click();
    await asked(page);
    assert.equal(await page.evaluate(() => sessionStorage.length + localStorage.length), 0, 'nothing is left of it');
    await whole();
  });

  test('remembered, it serves every tab; revoked while they are open, each says so and asks for another', async () => {
    const token = newToken(own.server, '--scope', 'operator', '--name', 'to be revoked');
    const { page, context, whole } = await own.window();
    await page.goto('/ui/jobs');
    await signIn(page, token, true);
    await connected(page);
    const other = await context.newPage();
    await other.goto(`${own.origin}/ui/workers`);
    await other.locator('.worker').waitFor();
    await connected(other);
    revokeToken(own.server, 'to be revoked');
    for (const each of [page, other]) await each.getByText(ENDED).waitFor({ timeout: 60_000 });
    assert.equal(await page.evaluate(() => localStorage.length), 0, 'it is forgotten');
    await page.reload();
    await asked(page);
    assert.equal(await page.getByText(ENDED).count(), 0);
    // One goes on where one was.
    await signIn(other, operator);
    await other.locator('.worker').waitFor();
    await whole();
  });

  test('a client sees and changes its own jobs, and nothing else', async () => {
    const token = newToken(own.server, '--scope', 'client', '--client-id', 'shop');
    const [mine] = await submit(own.server, [{ kind: 'archive', payload: {}, displayName: 'the shop’s' }], token);
    const [foreign] = await submit(own.server, [{ kind: 'archive', payload: {}, displayName: 'somebody’s', clientId: 'other' }], operator);
    const { page, whole } = await own.window();
    await page.goto('/ui/jobs');
    await signIn(page, token);
    await page.getByRole('link', { name: 'the shop’s' }).waitFor();
    await page.getByText('Showing 1 of 1').waitFor();
    await page.getByText('shop', { exact: true }).first().waitFor();
    assert.equal(await page.getByRole('link', { name: /Queues|Workers/ }).count(), 0);
    await page.getByLabel('Select the shop’s').check();
    await page.getByRole('button', { name: 'Cancel…' }).waitFor();
    await page.goto(`/ui/jobs/${foreign}`);
    await page.getByText('There is no such job').waitFor();
    for (const name of ['queues', 'workers']) {
      await page.goto(`/ui/${name}`);
      await page.getByText('are the operator’s').waitFor();
    }
    await page.goto('/ui/submit?kind=archive');
    await page.getByText('Options', { exact: true }).click();
    assert.equal(await page.getByLabel('Client id').count(), 0, 'it is the token’s');
    await page.getByRole('button', { name: 'Submit', exact: true }).click();
    await page.waitForURL(/\/ui\/jobs\/[0-9a-f-]{36}$/);
    await page.getByText('No live worker serves its queue.').waitFor();
    const { job } = await ask(own.server, 'query ($id: ID!) { job(id: $id) { clientId } }', { id: page.url().split('/').at(-1) }, operator);
    assert.equal(job.clientId, 'shop');
    await page.goto(`/ui/jobs/${mine}`);
    await page.getByRole('button', { name: 'Cancel…' }).click();
    await page.getByRole('button', { name: 'Cancel the job' }).click();
    await page.locator('.job-under [data-status=CANCELLED]').waitFor();
    await whole();
  });

  test('a worker’s token only looks, at jobs of its kinds', async () => {
    const token = newToken(own.server, '--config', CONFIGURATION, '--scope', 'worker', '--kind', 'archive');
    const [id, other] = await submit(
      own.server,
      [
        { kind: 'archive', payload: {}, displayName: 'for the worker' },
        { kind: 'echo', payload: {}, displayName: 'not for the worker' },
      ],
      operator,
    );
    const { page, whole } = await own.window();
    await page.goto(`/ui/jobs/${id}`);
    await signIn(page, token);
    await page.getByRole('heading', { name: 'for the worker' }).waitFor();
    await page.getByText('Worker', { exact: true }).waitFor();
    assert.equal(await page.getByRole('button', { name: 'Cancel…' }).count(), 0);
    assert.equal(await page.getByRole('link', { name: 'In a form' }).count(), 0);
    await page.goto(`/ui/jobs/${other}`);
    await page.getByText('There is no such job').waitFor();
    await page.goto('/ui/jobs');
    await page.getByRole('link', { name: 'for the worker', exact: true }).waitFor();
    assert.equal(await page.getByRole('checkbox').count(), 0);
    assert.equal(await page.getByRole('link', { name: 'Submit' }).count(), 0);
    await page.goto('/ui/submit');
    await page.getByText('This token does not submit').waitFor();
    await whole();
  });

  test('GraphiQL takes the token of the dashboard', async () => {
    const { page, whole } = await own.window();
    await page.goto('/ui/jobs');
    await signIn(page, operator);
    await connected(page);
    await page.getByRole('link', { name: 'GraphiQL' }).click();
    await page.locator('.graphiql-query-editor').getByText('submitJob').first().waitFor();
    await page.getByRole('button', { name: /execute/i }).click();
    await page.locator('.result-window').getByText('"DONE"').first().waitFor();
    await whole();
  });
});

describe('the first token', { concurrency: false }, () => {
  const own = setUp();

  test('asks whoever is in already', async () => {
    const { page, whole } = await own.window();
    await page.goto('/ui/queues');
    await page.locator('[data-queue=numbers]').waitFor();
    await connected(page);
    const token = newToken(own.server, '--scope', 'operator');
    await asked(page);
    assert.equal(await page.getByText(ENDED).count() + (await page.getByText(REFUSED).count()), 0, 'no token was refused');
    await signIn(page, token);
    await page.locator('[data-queue=numbers]').waitFor();
    await connected(page);
    await whole();
  });
});
