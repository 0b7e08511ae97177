-- waits_for: jobs it depends on that are not DONE, while it is BLOCKED; null for a job that depends on none.
-- has_dependents: its end matters to others. It lets the end of any other job cost nothing more.
ALTER TABLE job
    ADD COLUMN waits_for      integer,
    ADD COLUMN has_dependents boolean NOT NULL DEFAULT false;

-- `met` is set when the parent is DONE, once, by whoever subtracts it from the child. `cancels` says what a parent that
-- fails does to the child. A dependency lives as long as its child, longer than its parent perhaps. There are no
-- foreign keys: each would cost a look-up a row, and the submit holds the parents' rows anyway.
CREATE TABLE dependency (
    child   uuid NOT NULL,
    parent  uuid NOT NULL,
    met     boolean NOT NULL DEFAULT false,
    cancels boolean NOT NULL DEFAULT false,
    PRIMARY KEY (child, parent)
) WITH (
    -- Each row is updated once, in no indexed column: room in the page keeps that out of the indexes.
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.05
);

-- release, dependents, prune: the children of a job.
CREATE INDEX dependency_of_parent ON dependency (parent, child);

-- Ends of jobs whose consequences are due: one row an end, in the transaction of the end, whoever ends the job. It is
-- released in steps; `released_to` is the last child that was looked at.
CREATE TABLE job_end (
    number      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id      uuid NOT NULL,
    released_to uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);

CREATE FUNCTION job_note_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO job_end (job_id) VALUES (NEW.id);
    RETURN NULL;
END $$;

CREATE TRIGGER job_note_end
AFTER UPDATE ON job FOR EACH ROW
WHEN (NEW.has_dependents AND OLD.status <> NEW.status AND NEW.status IN ('DONE', 'ERROR', 'CANCELLED'))
EXECUTE FUNCTION job_note_end();

CREATE FUNCTION job_drop_dependencies() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM dependency WHERE child = OLD.id;
    RETURN NULL;
END $$;

CREATE TRIGGER job_drop_dependencies
AFTER DELETE ON job FOR EACH ROW
WHEN (OLD.waits_for IS NOT NULL)
EXECUTE FUNCTION job_drop_dependencies();
