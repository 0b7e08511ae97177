-- Workers over the API. `owner` says whose it is, and is null for processes of jobql; `name` is what the worker calls
-- itself. A worker is registered once at a time under its name.
ALTER TABLE worker
    ADD COLUMN owner text,
    ADD COLUMN lease_seconds integer NOT NULL DEFAULT 30,
    ADD CONSTRAINT worker_lease_range CHECK (lease_seconds BETWEEN 1 AND 100000);

CREATE UNIQUE INDEX worker_of_owner ON worker (owner, name) WHERE owner IS NOT NULL AND lost_at IS NULL;

-- What a claim under an id of the worker's choice brought, so that a repeated one gets the same.
CREATE TABLE claim (
    worker_id  uuid NOT NULL REFERENCES worker (id) ON DELETE CASCADE,
    claim_id   text NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT now(),
    job_ids    uuid[] NOT NULL,
    epochs     integer[] NOT NULL,
    PRIMARY KEY (worker_id, claim_id)
);

-- prune: claims that are not repeated any more.
CREATE INDEX claim_by_age ON claim (claimed_at);

-- Authenticates lease tokens, for all processes on this database. 244 random bits, from the source that PostgreSQL has
-- without an extension.
CREATE TABLE lease_key (
    only_one boolean PRIMARY KEY DEFAULT true,
    key      bytea NOT NULL,
    CONSTRAINT lease_key_only_one CHECK (only_one)
);
INSERT INTO lease_key (key) VALUES (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));
