-- The order of age. One sequence for all queues: a job keeps its number when it is released or loses its worker
-- once, and draws a new one when it becomes ready after waiting.
CREATE SEQUENCE job_seq AS bigint;

CREATE TABLE job (
    id                  uuid PRIMARY KEY,
    client_id           text NOT NULL,
    request_id          text NOT NULL,
    kind                text NOT NULL,
    queue               text NOT NULL,
    display_name        text NOT NULL,
    status              text NOT NULL,
    version             integer NOT NULL DEFAULT 1,
    priority            smallint NOT NULL,
    level               smallint NOT NULL,
    seq                 bigint NOT NULL DEFAULT nextval('job_seq'),
    payload             jsonb NOT NULL,
    result              jsonb,
    error               jsonb,
    progress_fraction   double precision,
    progress_message    text,
    progress_at         timestamptz,
    attempt             smallint NOT NULL DEFAULT 0,
    max_attempts        smallint NOT NULL,
    lease_epoch         integer NOT NULL DEFAULT 0,
    losses              smallint NOT NULL DEFAULT 0,
    timeout_seconds     integer NOT NULL,
    worker_id           uuid,
    workflow_id         uuid,
    created_at          timestamptz NOT NULL DEFAULT now(),
    run_at              timestamptz NOT NULL DEFAULT now(),
    started_at          timestamptz,
    finished_at         timestamptz,
    cancel_requested_at timestamptz,

    CONSTRAINT job_status_known CHECK (
        status IN ('BLOCKED', 'SCHEDULED', 'PENDING', 'RUNNING', 'DONE', 'ERROR', 'CANCELLED')),
    CONSTRAINT job_client_id_length CHECK (char_length(client_id) BETWEEN 1 AND 128),
    CONSTRAINT job_request_id_length CHECK (char_length(request_id) BETWEEN 1 AND 128),
    CONSTRAINT job_priority_range CHECK (priority >= 0),
    CONSTRAINT job_attempt_range CHECK (attempt BETWEEN 0 AND max_attempts AND max_attempts <= 100),
    CONSTRAINT job_timeout_range CHECK (timeout_seconds BETWEEN 1 AND 86400),
    CONSTRAINT job_progress_range CHECK (progress_fraction BETWEEN 0 AND 1),
    CONSTRAINT job_running_is_held CHECK (
        status <> 'RUNNING' OR (worker_id IS NOT NULL AND started_at IS NOT NULL AND lease_epoch > 0)),
    CONSTRAINT job_terminal_has_an_end CHECK (
        (status IN ('DONE', 'ERROR', 'CANCELLED')) = (finished_at IS NOT NULL)),
    CONSTRAINT job_result_when_done CHECK (status = 'DONE' OR result IS NULL),
    CONSTRAINT job_error_when_error CHECK ((status = 'ERROR') = (error IS NOT NULL))
) WITH (
    -- Every job is updated at least twice; room in the page keeps its versions together. The default vacuum
    -- threshold of a fifth of the table would let a drained backlog stand in the way of the claim.
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0
);

-- Each index serves named statements; an insert pays for all of them.
-- claim, queue position: the ready jobs in claim order.
CREATE INDEX job_ready ON job (queue, level, seq) WHERE status = 'PENDING';
-- sweep, heartbeat, queue position: what runs, by queue and by holder.
CREATE INDEX job_running ON job (queue, worker_id) WHERE status = 'RUNNING';
-- promote: what waits for its time.
CREATE INDEX job_scheduled ON job (run_at) WHERE status = 'SCHEDULED';
-- jobs(clientId): one client's list, newest first.
CREATE INDEX job_of_client ON job (client_id, id);

CREATE TABLE submit_key (
    client_id    text NOT NULL,
    request_id   text NOT NULL,
    job_id       uuid NOT NULL,
    kind         text NOT NULL,
    payload_hash bytea NOT NULL,
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (client_id, request_id)
);

CREATE TABLE attempt (
    job_id      uuid NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    lease_epoch integer NOT NULL,
    started_at  timestamptz NOT NULL,
    ended_at    timestamptz NOT NULL,
    outcome     text NOT NULL,
    error       jsonb,
    worker_id   uuid NOT NULL,
    PRIMARY KEY (job_id, lease_epoch),
    CONSTRAINT attempt_outcome_known CHECK (
        outcome IN ('ERROR', 'TIMEOUT', 'CANCELLED', 'WORKER_LOST', 'RELEASED'))
);

CREATE TABLE worker (
    id           uuid PRIMARY KEY,
    name         text NOT NULL,
    queues       text[] NOT NULL,
    kinds        text[] NOT NULL,
    slots        integer NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    draining     boolean NOT NULL DEFAULT false,
    lost_at      timestamptz
);

-- Guards. A WHEN clause decides, so that a legal change calls no function.

CREATE FUNCTION job_refuse_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a job cannot go from % to %', OLD.status, NEW.status
        USING ERRCODE = 'check_violation', CONSTRAINT = 'job_transition', TABLE = 'job';
END $$;

CREATE TRIGGER job_refuse_transition
BEFORE UPDATE ON job FOR EACH ROW
WHEN (OLD.status <> NEW.status AND NOT CASE OLD.status
    WHEN 'BLOCKED'   THEN NEW.status IN ('PENDING', 'SCHEDULED', 'CANCELLED')
    WHEN 'SCHEDULED' THEN NEW.status IN ('PENDING', 'CANCELLED')
    WHEN 'PENDING'   THEN NEW.status IN ('RUNNING', 'SCHEDULED', 'CANCELLED')
    WHEN 'RUNNING'   THEN NEW.status IN ('DONE', 'SCHEDULED', 'PENDING', 'ERROR', 'CANCELLED')
    WHEN 'ERROR'     THEN NEW.status IN ('PENDING', 'BLOCKED')
    WHEN 'CANCELLED' THEN NEW.status IN ('PENDING', 'BLOCKED')
    ELSE false
END)
EXECUTE FUNCTION job_refuse_transition();

-- The statements of the server raise the version themselves; this is for changes by hand.
CREATE FUNCTION job_raise_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := OLD.version + 1;
    RETURN NEW;
END $$;

CREATE TRIGGER job_raise_version
BEFORE UPDATE ON job FOR EACH ROW
WHEN (NEW.version <> OLD.version + 1)
EXECUTE FUNCTION job_raise_version();

-- Announcements: one call per statement, many jobs to a payload. NOTIFY allows less than 8,000 bytes; an entry
-- `id:status:version,` has at most 58, so 130 of them fit. The payload is a hint that says what to read again.
-- `jobql_ready` names the queues that got work, to wake workers.
CREATE FUNCTION job_announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('jobql_job', string_agg(entry, ','))
    FROM (SELECT id || ':' || status || ':' || version AS entry, (row_number() OVER () - 1) / 130 AS page
          FROM changed) AS entries
    GROUP BY page;
    PERFORM pg_notify('jobql_ready', queue)
    FROM (SELECT DISTINCT queue FROM changed WHERE status = 'PENDING') AS ready;
    RETURN NULL;
END $$;

CREATE FUNCTION job_announce_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('jobql_job', string_agg(entry, ','))
    FROM (SELECT id || ':GONE:' || version AS entry, (row_number() OVER () - 1) / 130 AS page
          FROM changed) AS entries
    GROUP BY page;
    RETURN NULL;
END $$;

CREATE TRIGGER job_announce_insert
AFTER INSERT ON job REFERENCING NEW TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION job_announce();

CREATE TRIGGER job_announce_update
AFTER UPDATE ON job REFERENCING NEW TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION job_announce();

CREATE TRIGGER job_announce_delete
AFTER DELETE ON job REFERENCING OLD TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION job_announce_gone();
