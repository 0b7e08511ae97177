// Turns built/ into dist/, which is committed and embedded: each file compressed, and files.rs, the table of them.
//
//   node scripts/pack.mjs           writes dist/
//   node scripts/pack.mjs --check   fails when dist/ does not hold what was built
//
// Contents are compared, not compressed bytes: those differ between versions of zlib, and a file whose content is the
// same keeps the bytes that it has.

import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, extname, join, relative } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';

const root = join(import.meta.dirname, '..');
const built = join(root, 'built');
const dist = join(root, 'dist');
const check = process.argv.includes('--check');

const TYPES = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.ttf': 'font/ttf',
  '.woff2': 'font/woff2',
};

/** A dashboard that is slow to come is not looked at. */
const FIRST_LOAD_BYTES = 150_000;

function list(folder) {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .sort();
}

function packed(path) {
  try {
    return gunzipSync(readFileSync(join(dist, `${path}.gz`)));
  } catch {
    return null;
  }
}

const paths = list(built);
const differing = [];
const rows = [];
for (const path of paths) {
  const type = TYPES[extname(path)];
  if (!type) throw new Error(`${path}: no content type is known for it`);
  const content = readFileSync(join(built, path));
  if (!packed(path)?.equals(content)) {
    differing.push(path);
    const target = join(dist, `${path}.gz`);
    if (!check) {
      mkdirSync(dirname(target), { recursive: true });
      writeFileSync(target, gzipSync(content, { level: 9 }));
    }
  }
  const hash = createHash('sha256').update(content).digest('hex').slice(0, 16);
  rows.push(`    File { path: "${path}", content_type: "${type}", hash: "${hash}", gzip: include_bytes!("${path}.gz") },`);
}

const table = `// Written by web/scripts/pack.mjs; not to be edited.\n[\n${rows.join('\n')}\n]\n`;
const tablePath = join(dist, 'files.rs');
let present = '';
try {
  present = readFileSync(tablePath, 'utf8');
} catch {
  // There is none yet.
}
if (present !== table) {
  differing.push('files.rs');
  if (!check) writeFileSync(tablePath, table);
}

const wanted = new Set(['files.rs', ...paths.map((path) => `${path}.gz`)]);
for (const path of list(dist).filter((path) => !wanted.has(path))) {
  differing.push(path);
  if (!check) rmSync(join(dist, path));
}

const compressed = (path) => readFileSync(join(dist, `${path}.gz`)).length;
const html = readFileSync(join(built, 'index.html'), 'utf8');
const first = [...html.matchAll(/(?:src|href)="\/ui\/([^"]+)"/g)].map((match) => match[1]);
if (!check || differing.length === 0) {
  const firstLoad = ['index.html', ...first].reduce((sum, path) => sum + compressed(path), 0);
  const all = paths.reduce((sum, path) => sum + compressed(path), 0);
  console.log(`first load of the dashboard: ${firstLoad} bytes compressed; all ${paths.length} files: ${all}`);
  if (firstLoad > FIRST_LOAD_BYTES) throw new Error(`the first load is larger than ${FIRST_LOAD_BYTES} bytes`);
}
if (check && differing.length > 0) {
  console.error(`web/dist is not what web/ builds; run make web and commit it. It differs in: ${differing.join(', ')}`);
  process.exit(1);
}
