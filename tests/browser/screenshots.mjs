// Takes the pictures in docs/screenshots: `node screenshots.mjs`. They are of a server of its own with some jobs.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Server, repository } from '../conformance/server.mjs';
import { ask, submit, submitWorkflow, wait } from './api.mjs';
import { launch, open } from './browser.mjs';
import { FLAGS, connected, until } from './setup.mjs';

const folder = join(repository, 'docs/screenshots');
mkdirSync(folder, { recursive: true });

const clients = ['shop-frontend', 'nightly-batch', 'mobile-app', 'back-office'];
const pictures = ['harbour-at-dawn.jpg', 'team-2026.png', 'cover-artwork.tiff', 'product-4711.jpg', 'floor-plan.png'];
const films = ['Keynote, 4K', 'Interview Berlin', 'Product tour', 'Webinar 12', 'Trailer', 'Podcast 88', 'Town hall', 'Release party'];

const server = await new Server(FLAGS).start();
const browser = await launch();
try {
  const shots = Array.from({ length: 240 }, (_, index) => ({
    key: `shot ${index + 1}`,
    kind: 'sum',
    payload: { start: 1, end: 2, pauseSeconds: 0.1 },
    displayName: `Shot ${index + 1}`,
    dependsOn: ['cut'],
  }));
  const film = await submitWorkflow(server, {
    name: 'Documentary, part 2',
    clientId: clients[1],
    jobs: [
      { key: 'ingest', kind: 'echo', displayName: 'Ingest' },
      { key: 'subtitles', kind: 'echo', displayName: 'Subtitles', dependsOn: ['ingest'] },
      { key: 'cut', kind: 'echo', displayName: 'Cut into shots', dependsOn: ['ingest'] },
      { key: 'rights', kind: 'invoice', displayName: 'Music rights', payload: { message: 'the licence has expired' }, dependsOn: ['ingest'] },
      ...shots,
      { key: 'sound', kind: 'import', displayName: 'Sound mix', payload: { lines: 4000, pause: 0.1 }, dependsOn: ['subtitles'] },
      { key: 'grade', kind: 'thumbnail', displayName: 'Colour grading', payload: { url: 'https://example.com/look.cube', width: 640 }, dependsOn: shots.map(({ key }) => key) },
      { key: 'master', kind: 'echo', displayName: 'Master', dependsOn: ['grade', 'sound'] },
      { key: 'publish', kind: 'echo', displayName: 'Publish', dependsOn: ['master', 'rights'] },
    ],
  });
  const counted = '{ workflow(id: "ID") { counts { done } } }'.replace('ID', film);
  await until('shots are done', async () => (await ask(server, counted)).workflow.counts.done > 130, 60);
  // So that some are done and some wait in every picture.
  await ask(server, 'mutation { pauseQueue(name: "numbers") { name } }');

  const by = (index) => ({ clientId: clients[index % clients.length] });
  const [failed] = await submit(server, [
    { kind: 'import', payload: { lines: 60, failAt: 42, pause: 0.01 }, displayName: 'orders-2026-11-21.csv', ...by(1) },
    { kind: 'invoice', payload: { message: 'the customer has no tax number' }, displayName: 'Invoice 2026-1107', ...by(3) },
    ...pictures.map((name, index) => ({ kind: 'thumbnail', payload: { url: `https://images.example.com/${name}`, width: 320 }, ...by(index) })),
    ...Array.from({ length: 5 }, (_, index) => ({ kind: 'wordcount', payload: { text: 'To be, or not to be' }, displayName: `Chapter ${index + 1}`, ...by(index + 2) })),
  ]);
  await wait(server, failed);
  const order = { id: 20481, customer: { name: 'Ada Lovelace', vip: true }, lines: [{ sku: 'A-17', quantity: 3 }, { sku: 'B-4', quantity: 1 }] };
  await submit(server, [
    { kind: 'echo', payload: order, displayName: 'Order 20481', ...by(0) },
    { kind: 'archive', payload: { year: 2025 }, displayName: 'Archive 2025', ...by(1) },
    { kind: 'sleep', payload: { seconds: 1 }, displayName: 'Warm the caches', runAt: new Date(Date.now() + 3 * 3_600_000).toISOString(), ...by(2) },
    ...films.slice(0, 6).map((name, index) => ({ kind: 'transcode', payload: { start: 1, end: 60 + 45 * index, pauseSeconds: 0.5 }, displayName: name, ...by(index) })),
  ]);
  const [running] = await submit(server, [{ kind: 'import', payload: { lines: 900, pause: 0.1 }, displayName: 'orders-2026-11-22.csv', ...by(1) }]);
  await submit(server, films.slice(6).map((name, index) => ({ kind: 'transcode', payload: { start: 1, end: 80, pauseSeconds: 0.5 }, displayName: name, priority: 90, ...by(index) })));
  await until('the import talks', async () => (await ask(server, 'query ($id: ID!) { job(id: $id) { progress { fraction } } }', { id: running })).job.progress?.fraction > 0.1, 60);

  const pages = {
    jobs: ['/ui/jobs', (page) => page.getByText('Showing').waitFor()],
    job: [`/ui/jobs/${running}`, (page) => page.getByText(/^[1-9]\d\d lines$/).waitFor()],
    failed: [`/ui/jobs/${failed}`, (page) => page.getByText('attempts used up').waitFor()],
    workflow: [`/ui/workflows/${film}`, (page) => page.locator('.node[data-jobs="240"]').waitFor()],
    submit: [
      '/ui/submit?kind=thumbnail',
      async (page) => {
        await page.getByRole('button', { name: 'Submit', exact: true }).click();
        await page.getByText('This field is required.').waitFor();
      },
    ],
    queues: ['/ui/queues', (page) => page.locator('[data-queue=numbers] canvas').first().waitFor()],
    workers: ['/ui/workers', (page) => page.locator('.held').waitFor()],
    graphiql: [
      '/graphiql',
      async (page) => {
        // What it submits needs a slot.
        await ask(server, 'mutation { cancelJobs(filter: {status: [RUNNING, PENDING, BLOCKED]}) { changed } resumeQueue(name: "numbers") { name } }');
        await page.locator('.graphiql-query-editor').getByText('submitJob').first().waitFor();
        await page.getByRole('button', { name: /execute/i }).click();
        await page.locator('.result-window').getByText('"DONE"').first().waitFor();
      },
    ],
  };
  const origin = server.url.replace('/graphql', '');
  const take = async (name, [path, ready], options, suffix) => {
    const { page, whole } = await open(browser, origin, { reducedMotion: 'reduce', ...options });
    await page.goto(path);
    if (path.startsWith('/ui')) await connected(page);
    await ready(page);
    await page.screenshot({ path: join(folder, `${name}-${suffix}.png`) });
    await whole();
  };
  for (const name of ['jobs', 'job', 'workflow']) await take(name, pages[name], { viewport: { width: 390, height: 780 } }, 'phone');
  for (const [name, page] of Object.entries(pages)) {
    for (const colorScheme of ['light', 'dark']) await take(name, page, { colorScheme }, colorScheme);
  }
} finally {
  await browser.close();
  await server.remove();
}
