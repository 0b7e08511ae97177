// Submitting by the form and as JSON, and how what is wrong is told.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ask, submit } from '../api.mjs';
import { setUp } from '../setup.mjs';

describe('the submit page', { concurrency: false }, () => {
  const own = setUp();
  const payloadOf = async (page) => {
    await page.waitForURL(/\/ui\/jobs\/[0-9a-f-]{36}$/);
    const id = page.url().split('/').at(-1);
    return (await ask(own.server, 'query ($id: ID!) { job(id: $id) { payload displayName priority } }', { id })).job;
  };

  test('a form made of the schema leads to the job', async () => {
    const { page, whole } = await own.window();
    await page.goto('/ui/submit');
    await page.getByRole('radio', { name: 'thumbnail' }).check();
    await page.getByRole('textbox', { name: 'Picture' }).fill('https://example.com/a.jpg');
    assert.equal(await page.getByLabel('Width in pixels').inputValue(), '320', 'the usual value is there');
    await page.getByLabel('Width in pixels').fill('640');
    await page.getByLabel('Format', { exact: true }).selectOption('webp');
    await page.getByLabel('Sharpen').check();
    await page.getByLabel('Tags').fill('sea\ndawn');
    await page.getByLabel('x', { exact: true }).fill('12');
    await page.getByText('Options', { exact: true }).click();
    await page.getByLabel('Name', { exact: true }).fill('a small harbour');
    await page.getByLabel('Priority').fill('7');
    await page.getByRole('button', { name: 'Submit', exact: true }).click();
    const job = await payloadOf(page);
    assert.deepEqual(job, {
      payload: { url: 'https://example.com/a.jpg', width: 640, format: 'webp', sharpen: true, tags: ['sea', 'dawn'], crop: { x: 12 } },
      displayName: 'a small harbour',
      priority: 7,
    });
    await page.getByRole('heading', { name: 'a small harbour' }).waitFor();
    await whole();
  });

  test('what the server refuses is told at its field', async () => {
    const { page, whole } = await own.window();
    await page.goto('/ui/submit?kind=thumbnail');
    await page.getByLabel('Width in pixels').fill('wide');
    await page.getByRole('button', { name: 'Submit', exact: true }).click();
    const picture = page.locator('.form-field', { hasText: 'Picture' });
    await picture.getByText('This field is required.').waitFor();
    const width = page.locator('.form-field', { hasText: 'Width in pixels' });
    await width.locator('.field-problem').waitFor();
    assert.equal(await page.getByLabel('Width in pixels').getAttribute('aria-invalid'), 'true');
    assert.ok(await page.getByRole('textbox', { name: 'Picture' }).evaluate((field) => field === document.activeElement), 'the first one has the focus');
    await page.getByText('Options', { exact: true }).click();
    await page.getByRole('textbox', { name: 'Picture' }).fill('https://example.com/a.jpg');
    await page.getByLabel('Width in pixels').fill('100');
    await page.getByLabel('Attempts').fill('1000');
    await page.getByRole('button', { name: 'Submit', exact: true }).click();
    await page.locator('.form-field', { hasText: 'Attempts' }).locator('.field-problem').waitFor();
    await page.getByLabel('Attempts').fill('1');
    await page.getByRole('button', { name: 'Submit', exact: true }).click();
    await payloadOf(page);
    await whole();
  });

  test('JSON is read with its lines, and big numbers stay exact', async () => {
    const { page, whole } = await own.window();
    await page.goto('/ui/submit?kind=thumbnail');
    await page.getByRole('button', { name: 'JSON' }).click();
    const editor = page.getByRole('textbox', { name: 'Payload' });
    await editor.fill('{\n  "url": "https://example.com",\n  "width": 1,\n}');
    await page.getByText('Expected a field’s name in quotes').waitFor();
    await page.getByRole('button', { name: 'Line 4' }).waitFor();
    await editor.fill('{\n  "url": "https://example.com",\n  "width": 1\n}');
    await page.getByRole('button', { name: 'Submit', exact: true }).click();
    // The width is too small.
    await page.getByRole('button', { name: 'Line 3' }).click();
    const marked = await editor.evaluate((field) => field.value.slice(field.selectionStart, field.selectionEnd));
    assert.equal(marked, '  "width": 1');

    await page.getByRole('radio', { name: 'echo' }).check();
    await editor.fill('{"id": 9007199254740993, "list": [0.1, 18446744073709551615]}');
    await page.getByRole('button', { name: 'Submit', exact: true }).click();
    await page.waitForURL(/\/ui\/jobs\/[0-9a-f-]{36}$/);
    await page.getByLabel('Result', { exact: true }).getByText('9007199254740993').waitFor();
    await page.getByRole('region', { name: 'Payload' }).getByText('18446744073709551615').first().waitFor();
    await page.getByRole('link', { name: 'In a form' }).click();
    await page.waitForURL('**kind=echo');
    assert.match(await page.getByRole('textbox', { name: 'Payload' }).inputValue(), /9007199254740993/);
    await whole();
  });

  test('a file is chosen, and sent as base64', async () => {
    const { page, whole } = await own.window();
    await page.goto('/ui/submit?kind=scan');
    const bytes = Buffer.from([0, 255, 37, 80, 68, 70, 10]);
    await page.getByLabel('Page').setInputFiles({ name: 'page.pdf', mimeType: 'application/pdf', buffer: bytes });
    await page.getByText('7 bytes are chosen.').waitFor();
    await page.getByRole('button', { name: 'Submit', exact: true }).click();
    assert.deepEqual((await payloadOf(page)).payload, { page: bytes.toString('base64') });
    await whole();
  });

  test('a request id that was used leads to the first job', async () => {
    const [id] = await submit(own.server, [{ kind: 'echo', payload: {}, clientId: 'me', requestId: 'once' }]);
    const { page, whole } = await own.window();
    await page.goto('/ui/submit?kind=echo');
    await page.getByText('Options', { exact: true }).click();
    await page.getByLabel('Client id').fill('me');
    await page.getByLabel('Request id').fill('once');
    await page.getByRole('button', { name: 'Submit', exact: true }).click();
    await page.waitForURL(`**/ui/jobs/${id}`);
    await page.getByText('This request id was used before').waitFor();
    await whole();
  });

  test('jobs that must be done first are named while one types, and kept', async () => {
    const [first, second] = await submit(own.server, [
      { kind: 'archive', payload: {}, displayName: 'the foundation' },
      { kind: 'archive', payload: {}, displayName: 'the walls' },
    ]);
    const { page, whole } = await own.window();
    await page.goto('/ui/submit?kind=echo');
    await page.getByText('Options', { exact: true }).click();
    const field = page.getByLabel('Only after these jobs');
    const awaited = page.getByRole('list', { name: 'Jobs that must be done first' });
    const nobody = '01a20429-ebc1-7626-aa46-8707a4ac544c';
    await field.fill(`${first}\nthe second one\n${nobody}`);
    await awaited.getByRole('link', { name: 'the foundation' }).waitFor();
    await awaited.getByText('the is not the id of a job.').waitFor();
    await awaited.getByText('There is no job …a4ac544c.').waitFor();
    await field.fill(`${first} ${nobody}`);
    await page.getByRole('button', { name: 'Submit', exact: true }).click();
    await page.locator('.form-field', { hasText: 'Only after these jobs' }).getByText(/there is no job .* of client/i).waitFor();
    assert.equal(await field.getAttribute('aria-invalid'), 'true');
    await field.fill(`${first},${second}`);
    await awaited.getByRole('link', { name: 'the walls' }).waitFor();
    await page.getByRole('button', { name: 'Submit', exact: true }).click();
    await page.waitForURL(/\/ui\/jobs\/[0-9a-f-]{36}$/);
    await page.getByText('It depends on jobs that are not done.').waitFor();
    const { job } = await ask(own.server, 'query ($id: ID!) { job(id: $id) { dependsOn { nodes { id } } } }', { id: page.url().split('/').at(-1) });
    assert.deepEqual(job.dependsOn.nodes.map(({ id }) => id), [first, second]);
    await whole();
  });
});
