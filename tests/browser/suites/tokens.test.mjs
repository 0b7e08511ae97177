// Signing in and out, and what is offered to whom. A gate before the server stands for its tokens: it wants `good`, and
// tells the page that one is who the test says.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { submit } from '../api.mjs';
import { connected, setUp } from '../setup.mjs';

const GOOD = 'Bearer good';

async function gate(context, viewer) {
  const gate = { open: true, sockets: [] };
  await context.route('**/graphql', async (route) => {
    const headers = { ...route.request().headers() };
    if (!gate.open || headers.authorization !== GOOD) {
      const errors = [{ message: 'a token is needed', extensions: { code: 'UNAUTHENTICATED' } }];
      return route.fulfill({ status: 401, contentType: 'application/graphql-response+json', body: JSON.stringify({ errors }) });
    }
    delete headers.authorization;
    if (!route.request().postData()?.includes('viewer')) return route.continue({ headers });
    return route.fulfill({ contentType: 'application/graphql-response+json', body: JSON.stringify({ data: { viewer } }) });
  });
  await context.routeWebSocket('**/graphql', (socket) => {
    const server = socket.connectToServer();
    gate.sockets.push(socket);
    socket.onMessage((text) => {
      const message = JSON.parse(text);
      if (message.type !== 'connection_init') return server.send(text);
      if (!gate.open || message.payload?.authorization !== GOOD) return socket.close({ code: 4403, reason: 'Forbidden' });
      return server.send(JSON.stringify({ type: 'connection_init' }));
    });
  });
  return gate;
}

describe('tokens', { concurrency: false }, () => {
  const own = setUp();
  const OPERATOR = { scope: 'OPERATOR', clientId: null };

  async function signIn(page, token, remember = false) {
    await page.getByLabel('Token', { exact: true }).fill(token);
    if (remember) await page.getByLabel('Remember it').check();
    await page.getByRole('button', { name: 'Sign in' }).click();
  }

  test('without a token one is asked for it; a bad one is told; a good one leads on, for this tab', async () => {
    const { page, context, whole } = await own.window();
    await gate(context, OPERATOR);
    await page.goto('/ui/queues');
    await page.getByRole('heading', { name: 'Sign in' }).waitFor();
    await signIn(page, 'bad');
    await page.getByText('The server does not take this token').waitFor();
    await signIn(page, 'good');
    await page.locator('[data-queue=numbers]').waitFor();
    await connected(page);
    await page.getByText('Operator', { exact: true }).waitFor();
    await page.reload();
    await page.locator('[data-queue=numbers]').waitFor();
    const other = await context.newPage();
    await other.goto(`${own.origin}/ui/jobs`);
    await other.getByRole('heading', { name: 'Sign in' }).waitFor();
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByRole('heading', { name: 'Sign in' }).waitFor();
    assert.equal(await page.evaluate(() => sessionStorage.length + localStorage.length), 0, 'nothing is left of it');
    await whole();
  });

  test('remembered, it serves every tab; revoked, both ways lead to the sign-in', async () => {
    const { page, context, whole } = await own.window();
    const wall = await gate(context, OPERATOR);
    await page.goto('/ui/jobs');
    await signIn(page, 'good', true);
    await connected(page);
    const other = await context.newPage();
    await other.goto(`${own.origin}/ui/jobs`);
    await connected(other);
    wall.open = false;
    for (const socket of wall.sockets) await socket.close({ code: 4403, reason: 'Forbidden' });
    for (const each of [page, other]) await each.getByText('The server does not take this token').waitFor();
    await whole();
  });

  test('a client changes jobs and sees no queues; a worker only looks', async () => {
    const [id] = await submit(own.server, [{ kind: 'archive', payload: {}, displayName: 'somebody’s' }]);
    const client = await own.window();
    await gate(client.context, { scope: 'CLIENT', clientId: 'shop' });
    await client.page.goto(`/ui/jobs/${id}`);
    await signIn(client.page, 'good');
    await client.page.getByRole('button', { name: 'Cancel…' }).waitFor();
    await client.page.getByText('shop', { exact: true }).waitFor();
    assert.equal(await client.page.getByRole('link', { name: 'Queues' }).count(), 0);
    await client.page.goto('/ui/queues');
    await client.page.getByText('Queues are the operator’s').waitFor();
    await client.whole();

    const worker = await own.window();
    await gate(worker.context, { scope: 'WORKER', clientId: null });
    await worker.page.goto(`/ui/jobs/${id}`);
    await signIn(worker.page, 'good');
    await worker.page.getByRole('heading', { name: 'somebody’s' }).waitFor();
    assert.equal(await worker.page.getByRole('button', { name: 'Cancel…' }).count(), 0);
    await worker.page.goto('/ui/jobs');
    await worker.page.getByRole('link', { name: 'somebody’s' }).waitFor();
    assert.equal(await worker.page.getByRole('checkbox').count(), 0);
    await worker.page.goto('/ui/submit');
    await worker.page.getByText('This token does not submit').waitFor();
    await worker.whole();
  });
});
