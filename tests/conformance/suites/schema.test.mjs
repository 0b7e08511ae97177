// schema.graphql under the tools that people have for schemas: relay-compiler, graphql-eslint, graphql-inspector.
// graphql-codegen has its run in the example of TypeScript.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import graphqlPlugin from '@graphql-eslint/eslint-plugin';
import { CriticalityLevel, diff } from '@graphql-inspector/core';
import { ESLint } from 'eslint';
import { buildClientSchema, buildSchema, getIntrospectionQuery } from 'graphql';
import { repository } from '../server.mjs';
import { request } from '../streams.mjs';

const conformance = join(dirname(fileURLToPath(import.meta.url)), '..');
const file = join(repository, 'schema.graphql');
const schema = buildSchema(readFileSync(file, 'utf8'));

test('introspection gives what schema.graphql says', async () => {
  const options = { specifiedByUrl: true, directiveIsRepeatable: true, inputValueDeprecation: true };
  const live = buildClientSchema(await request(process.env.JOBQL_URL, getIntrospectionQuery(options)));
  // Introspection tells the URLs of scalars, and not by which directive the schema's text has them.
  const changes = (await diff(live, schema)).map((change) => change.message);
  assert.deepEqual(changes.filter((message) => !message.includes('specifiedBy')), []);
});

test('graphql-eslint: schema-recommended and the rules of Relay', async () => {
  const eslint = new ESLint({
    cwd: repository,
    overrideConfigFile: true,
    overrideConfig: [
      {
        files: ['**/*.graphql'],
        plugins: { '@graphql-eslint': graphqlPlugin },
        languageOptions: { parser: graphqlPlugin.parser, parserOptions: { graphQLConfig: { schema: file } } },
        rules: {
          ...graphqlPlugin.configs['flat/schema-recommended'].rules,
          ...graphqlPlugin.configs['flat/schema-relay'].rules,
          // How the export writes them is a matter of form; that every one is there is not.
          '@graphql-eslint/description-style': 'off',
          // Plain lists of what is few and belongs to its parent stand beside connections.
          '@graphql-eslint/relay-edge-types': ['error', { listTypeCanWrapOnlyEdgeType: false }],
          // A payload and an edge have no id of their own, and a position is a moment's.
          '@graphql-eslint/strict-id-in-types': [
            'error',
            {
              exceptions: {
                types: ['JobAttempt', 'JobError', 'JobKind', 'JobProgress', 'PageInfo', 'QueuePosition', 'SubmitJobPayload'],
                suffixes: ['Connection', 'Edge'],
              },
            },
          ],
        },
      },
    ],
  });
  const [result] = await eslint.lintFiles(['schema.graphql']);
  // A rule that is not known, or a file that is ignored, would be a message too.
  assert.deepEqual(result.messages.map(({ line, ruleId, message }) => `${line} ${ruleId}: ${message}`), []);
});

test('graphql-inspector: nothing that clients rely on has gone since the baseline', async () => {
  const baseline = buildSchema(readFileSync(join(conformance, 'baseline.graphql'), 'utf8'));
  const changes = await diff(baseline, schema);
  const breaking = changes.filter((change) => change.criticality.level === CriticalityLevel.Breaking);
  assert.deepEqual(breaking.map((change) => change.message), []);
});

test('relay-compiler: pagination, refetch by node, subscription', () => {
  const folder = mkdtempSync(join(tmpdir(), 'jobql-relay-'));
  try {
    mkdirSync(join(folder, 'src/__generated__'), { recursive: true });
    writeFileSync(join(folder, 'schema.graphql'), readFileSync(file));
    writeFileSync(join(folder, 'package.json'), '{}');
    writeFileSync(join(folder, 'src/jobs.js'), readFileSync(join(conformance, 'clients/relay.js')));
    const config = { src: './src', schema: './schema.graphql', language: 'javascript', artifactDirectory: './src/__generated__' };
    writeFileSync(join(folder, 'relay.config.json'), JSON.stringify(config));
    const compiler = join(conformance, 'node_modules/relay-compiler/cli.js');
    execFileSync(process.execPath, [compiler, 'relay.config.json'], { cwd: folder, stdio: 'pipe' });
    const made = readdirSync(join(folder, 'src/__generated__')).sort();
    assert.deepEqual(made, [
      'jobsListPaginationQuery.graphql.js',
      'jobsList_query.graphql.js',
      'jobsQuery.graphql.js',
      'jobsRefetchQuery.graphql.js',
      'jobsRow_job.graphql.js',
      'jobsSubmitMutation.graphql.js',
      'jobsWatchSubscription.graphql.js',
    ]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
