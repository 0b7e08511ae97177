// PostGraphile 5 on a table like ours, with its indexes and without its triggers: it announces nothing here.
// Serves until it is told to stop; the load comes from `jobql bench post`.

import { createServer } from "node:http";
import pg from "pg";
import { postgraphile } from "postgraphile";
import { makePgService } from "postgraphile/adaptors/pg";
import { grafserv } from "postgraphile/grafserv/node";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { databaseUrl, versionOf } from "./measure.mjs";

const client = new pg.Client({ connectionString: databaseUrl });
await client.connect();
await client.query(`
  CREATE SCHEMA IF NOT EXISTS app;
  CREATE TABLE IF NOT EXISTS app.job (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), seq bigserial NOT NULL,
    client_id text NOT NULL, kind text NOT NULL, queue text NOT NULL DEFAULT 'default', status text NOT NULL DEFAULT 'PENDING',
    display_name text NOT NULL DEFAULT 'noop', priority smallint NOT NULL DEFAULT 100, payload jsonb NOT NULL, result jsonb,
    created_at timestamptz NOT NULL DEFAULT now(), started_at timestamptz, finished_at timestamptz
  );
  CREATE INDEX IF NOT EXISTS job_ready ON app.job (queue, priority, seq) WHERE status = 'PENDING';
  CREATE INDEX IF NOT EXISTS job_running ON app.job (queue) WHERE status = 'RUNNING';
  CREATE INDEX IF NOT EXISTS job_of_client ON app.job (client_id, id);
  CREATE INDEX IF NOT EXISTS job_of_kind ON app.job (kind, created_at);
`);
await client.end();

const preset = {
  extends: [PostGraphileAmberPreset],
  pgServices: [makePgService({ connectionString: databaseUrl, schemas: ["app"], poolConfig: { max: 20 } })],
  grafserv: { port: 0, graphqlPath: "/graphql", graphiql: false },
  grafast: { explain: false },
};
const server = createServer();
server.on("error", (error) => { console.error(error); process.exit(1); });
await postgraphile(preset).createServ(grafserv).addTo(server);
server.listen(0, "127.0.0.1", () => {
  const url = `http://127.0.0.1:${server.address().port}/graphql`;
  console.log(JSON.stringify({ peer: "PostGraphile", version: versionOf("postgraphile"), settings: "pool of 20", url }));
});
process.on("SIGTERM", () => process.exit(0));
