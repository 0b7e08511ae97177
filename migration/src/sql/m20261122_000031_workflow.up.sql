-- A workflow: jobs that were submitted together, and what becomes of them as a whole. It is RUNNING while a job of it runs
-- or can still run without anyone acting. `ends` counts how often it came to an end; it makes the id of the callback's
-- message. `max_payload_bytes` is the limit under which it was submitted, for payloads with results of parents in them.
CREATE TABLE workflow (
    id                uuid PRIMARY KEY,
    client_id         text NOT NULL,
    request_id        text NOT NULL,
    name              text,
    on_failure        text NOT NULL,
    status            text NOT NULL DEFAULT 'RUNNING',
    max_payload_bytes integer NOT NULL,
    callback_url      text,
    ends              integer NOT NULL DEFAULT 0,
    created_at        timestamptz NOT NULL DEFAULT now(),
    finished_at       timestamptz,
    CONSTRAINT workflow_on_failure_known CHECK (on_failure IN ('BLOCK', 'CANCEL')),
    CONSTRAINT workflow_status_known CHECK (status IN ('RUNNING', 'DONE', 'ERROR', 'CANCELLED')),
    CONSTRAINT workflow_finished_has_an_end CHECK ((status = 'RUNNING') = (finished_at IS NULL))
);

ALTER TABLE job
    ADD COLUMN workflow_key text,
    ADD COLUMN results_as   text;

-- jobs(workflowId), counts, what is left of a workflow. Jobs of no workflow, which is most, are in none of these.
CREATE INDEX job_of_workflow ON job (workflow_id, id) WHERE workflow_id IS NOT NULL;
-- settle: is there a job that runs, or will? The condition stands in store::settle as well.
CREATE INDEX job_active_of_workflow ON job (workflow_id)
WHERE workflow_id IS NOT NULL
    AND (status IN ('SCHEDULED', 'PENDING', 'RUNNING') OR (status = 'BLOCKED' AND waits_for = 0));
-- hand down: jobs that wait for nothing but the results of their parents.
CREATE INDEX job_results_due ON job (id) WHERE status = 'BLOCKED' AND waits_for = 0;

-- The end of a job of a workflow may be the end of the workflow. `released`: its dependents have been seen to.
ALTER TABLE job_end
    ADD COLUMN workflow_id uuid,
    ADD COLUMN released    boolean NOT NULL DEFAULT false;
CREATE INDEX job_end_due ON job_end (number) WHERE NOT released;
CREATE INDEX job_end_released ON job_end (number) WHERE released;

DROP TRIGGER job_note_end ON job;

CREATE OR REPLACE FUNCTION job_note_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO job_end (job_id, workflow_id, released) VALUES (NEW.id, NEW.workflow_id, NOT NEW.has_dependents);
    RETURN NULL;
END $$;

CREATE TRIGGER job_note_end
AFTER UPDATE ON job FOR EACH ROW
WHEN ((NEW.has_dependents OR NEW.workflow_id IS NOT NULL)
      AND OLD.status <> NEW.status AND NEW.status IN ('DONE', 'ERROR', 'CANCELLED'))
EXECUTE FUNCTION job_note_end();

-- As callback_delivery is for jobs; `event` is the number of the workflow's end.
CREATE TABLE workflow_callback (
    workflow_id  uuid PRIMARY KEY REFERENCES workflow (id) ON DELETE CASCADE,
    event        integer NOT NULL,
    status       text NOT NULL DEFAULT 'WAITING',
    attempts     integer NOT NULL DEFAULT 0,
    next_at      timestamptz,
    last_error   text,
    delivered_at timestamptz,
    CONSTRAINT workflow_callback_status_known CHECK (status IN ('WAITING', 'DELIVERED', 'FAILED'))
);

CREATE INDEX workflow_callback_due ON workflow_callback (next_at) WHERE status = 'WAITING' AND next_at IS NOT NULL;

-- A retry makes its workflow run again, and what was to be told of its end is not told any more. The row is locked
-- first: the next statement then sees what a settle that held it has written.
CREATE FUNCTION workflow_run_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM workflow WHERE id = NEW.workflow_id FOR NO KEY UPDATE;
    UPDATE workflow SET status = 'RUNNING', finished_at = NULL WHERE id = NEW.workflow_id AND status <> 'RUNNING';
    IF FOUND THEN
        UPDATE workflow_callback SET status = 'WAITING', attempts = 0, next_at = NULL WHERE workflow_id = NEW.workflow_id;
        PERFORM pg_notify('jobql_workflow', NEW.workflow_id::text);
    END IF;
    RETURN NULL;
END $$;

-- One that is retried and must wait for a job that failed cannot run, and leaves the workflow as it is.
CREATE TRIGGER workflow_run_again
AFTER UPDATE ON job FOR EACH ROW
WHEN (NEW.workflow_id IS NOT NULL AND OLD.status IN ('ERROR', 'CANCELLED')
      AND (NEW.status = 'PENDING' OR (NEW.status = 'BLOCKED' AND NEW.waits_for = 0)))
EXECUTE FUNCTION workflow_run_again();

-- New in the table of legal changes: BLOCKED to ERROR, when the results of its parents cannot be handed down. Such a
-- job must not stay BLOCKED, and was not cancelled by anyone.
DROP TRIGGER job_refuse_transition ON job;

CREATE TRIGGER job_refuse_transition
BEFORE UPDATE ON job FOR EACH ROW
WHEN (OLD.status <> NEW.status AND NOT CASE OLD.status
    WHEN 'BLOCKED'   THEN NEW.status IN ('PENDING', 'SCHEDULED', 'CANCELLED', 'ERROR')
    WHEN 'SCHEDULED' THEN NEW.status IN ('PENDING', 'CANCELLED')
    WHEN 'PENDING'   THEN NEW.status IN ('RUNNING', 'SCHEDULED', 'CANCELLED')
    WHEN 'RUNNING'   THEN NEW.status IN ('DONE', 'SCHEDULED', 'PENDING', 'ERROR', 'CANCELLED')
    WHEN 'ERROR'     THEN NEW.status IN ('PENDING', 'BLOCKED')
    WHEN 'CANCELLED' THEN NEW.status IN ('PENDING', 'BLOCKED')
    ELSE false
END)
EXECUTE FUNCTION job_refuse_transition();
