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
          // A log and what comes next in a queue are read forwards only.
          '@graphql-eslint/relay-arguments': ['error', { includeBoth: false }],
          // Payloads, edges and counts have no id of their own, and a position is a moment's; a kind and a queue have
          // their names; a lease and its state belong to the job that they name.
          '@graphql-eslint/strict-id-in-types': [
            'error',
            {
              exceptions: {
                types: ['Callback', 'ClaimedJob', 'HeartbeatResult', 'JobAttempt', 'JobError', 'JobKind', 'JobLoad', 'JobLogLine']
                  .concat(['JobProgress', 'JobThroughput', 'KindStatus', 'PageInfo', 'Queue', 'QueuePosition'])
                  .concat(['StatusCounts', 'Viewer']),
                suffixes: ['Connection', 'Edge', 'Payload'],
              },
            },
          ],
        },
      },
    ],
  });
  const [result] = await eslint.lintFiles(['schema.graphql']);
  // A rule that is not known, or a file that is ignored, would be a message too.
  const told = result.messages.map(({ ruleId, message, line }) => ({ line, said: `${ruleId}: ${message}` }));
  const lines = readFileSync(file, 'utf8').split('\n');
  // The lines of a log are nodes with cursors of their own; edges around them would say nothing.
  const intended = ({ line, said }) =>
    lines[line - 1].startsWith('type JobLogConnection') && said.includes('must contain a field `edges`');
  assert.equal(told.filter(intended).length, 1, 'the exception is gone; take it off');
  assert.deepEqual(told.filter((each) => !intended(each)), []);
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
