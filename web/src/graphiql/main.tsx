/** @jsxImportSource react */
// GraphiQL on this server: POST for queries and mutations, the socket for subscriptions, and the token, if any, that one
// signed in with on the dashboard. It is large, and loaded by its own page only.

import 'graphiql/setup-workers/vite';
import 'graphiql/style.css';
import './graphiql.css';
import { createGraphiQLFetcher } from '@graphiql/toolkit';
import { GraphiQL } from 'graphiql';
import { type GraphQLSchema, type IntrospectionQuery, buildClientSchema, getIntrospectionQuery, isScalarType } from 'graphql';
import { createClient } from 'graphql-ws';
import { useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { storedToken } from '../api/token';
import { isDark } from '../ui/theme';
import { EXAMPLES } from './examples';

const PAGES = [
  { href: '/ui/jobs', name: 'Jobs' },
  { href: '/ui/submit', name: 'Submit' },
  { href: '/ui/queues', name: 'Queues' },
  { href: '/ui/workers', name: 'Workers' },
];

const endpoint = '/graphql';
const bearer = (): Record<string, string> => {
  const token = storedToken();
  return token ? { authorization: `Bearer ${token}` } : {};
};

const sockets = createClient({
  url: `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}${endpoint}`,
  connectionParams: bearer,
});

// The token is looked up for each request: one may sign in or out in another tab.
const fetcher = createGraphiQLFetcher({
  url: endpoint,
  wsClient: sockets,
  fetch: (input, init) => fetch(input, { ...init, headers: { ...(init?.headers as Record<string, string>), ...bearer() } }),
});

/**
 * The schema, as the editor can print it: graphql-js cannot print the default value {} of a scalar unless the scalar
 * makes a text of it.
 */
async function readSchema(): Promise<GraphQLSchema | undefined> {
  const response = await fetch(endpoint, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...bearer() },
    body: JSON.stringify({ query: getIntrospectionQuery() }),
  });
  const { data } = (await response.json()) as { data?: IntrospectionQuery };
  if (!data) return undefined;
  const schema = buildClientSchema(data);
  for (const type of Object.values(schema.getTypeMap())) {
    if (!isScalarType(type)) continue;
    const usual = type.serialize;
    type.serialize = (value) => (typeof value === 'object' && value !== null ? JSON.stringify(value) : usual(value));
  }
  return schema;
}

function Page() {
  // None keeps GraphiQL from asking for it; undefined lets it ask, and say why it gets none.
  const [schema, setSchema] = useState<GraphQLSchema | null | undefined>(null);
  useEffect(() => void readSchema().catch(() => undefined).then(setSchema), []);
  const [dark, setDark] = useState(isDark.peek());
  useEffect(() => isDark.subscribe(setDark), []);
  return (
    <>
      <header className="bar">
        <a className="brand" href="/ui/jobs">
          jobql
        </a>
        <nav aria-label="Main">
          {PAGES.map((page) => (
            <a key={page.href} href={page.href}>
              {page.name}
            </a>
          ))}
          <a href="/graphiql" aria-current="page">
            GraphiQL
          </a>
        </nav>
      </header>
      <main>
        <GraphiQL schema={schema} fetcher={fetcher} defaultTabs={EXAMPLES} forcedTheme={dark ? 'dark' : 'light'} defaultEditorToolsVisibility="variables" />
      </main>
    </>
  );
}

const root = document.getElementById('app');
if (root) createRoot(root).render(<Page />);
