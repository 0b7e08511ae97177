-- The ledger: how many jobs of each kind stand in each status of a queue, and of the pending ones in each block of 2,048
-- numbers of a level. A position then adds up some hundred rows where it would count up to a million jobs.
--
-- Each statement that changes jobs, by whomever, appends to `job_count_change` what it changed, in its own transaction. So
-- the counts together with the changes are exact in every snapshot, and nobody waits for anybody. The maintenance folds
-- the changes into the counts several times a second; when nobody does, reads get slower and stay exact.

-- The level is 0 unless the status is PENDING.
CREATE TABLE job_count (
    queue  text NOT NULL,
    status text NOT NULL,
    level  smallint NOT NULL,
    kind   text NOT NULL,
    jobs   bigint NOT NULL,
    PRIMARY KEY (queue, status, level, kind)
) WITH (fillfactor = 50);

-- The block of a job is its seq / 2,048: half of a block is counted for a position, and at a million jobs there are 489.
CREATE TABLE ready_block (
    queue text NOT NULL,
    level smallint NOT NULL,
    block bigint NOT NULL,
    kind  text NOT NULL,
    jobs  bigint NOT NULL,
    PRIMARY KEY (queue, level, block, kind)
) WITH (fillfactor = 50);

-- Always read whole, and small: an index would only cost. Whoever folds it vacuums it as well. Cutting off its end would
-- take a lock that stops everybody.
CREATE TABLE job_count_change (
    queue  text NOT NULL,
    status text NOT NULL,
    level  smallint NOT NULL,
    block  bigint NOT NULL,
    kind   text NOT NULL,
    jobs   bigint NOT NULL
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0, vacuum_truncate = off);

-- PostgreSQL keeps the changed rows once for all triggers of a statement, and the announcements need the new ones anyway.
-- Measured on batches of 100 rows: 2.5 microseconds a row for an update, nothing to be seen for an insert; on single rows
-- 30 microseconds a statement.
CREATE FUNCTION job_count_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO job_count_change (queue, status, level, block, kind, jobs)
        SELECT queue, status, CASE status WHEN 'PENDING' THEN level ELSE 0 END,
               CASE status WHEN 'PENDING' THEN seq >> 11 ELSE 0 END, kind, count(*)
        FROM added GROUP BY 1, 2, 3, 4, 5;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO job_count_change (queue, status, level, block, kind, jobs)
        SELECT queue, status, level, block, kind, sum(jobs)
        FROM (SELECT queue, status, CASE status WHEN 'PENDING' THEN level ELSE 0 END AS level,
                     CASE status WHEN 'PENDING' THEN seq >> 11 ELSE 0 END AS block, kind, 1 AS jobs
              FROM added
              UNION ALL
              SELECT queue, status, CASE status WHEN 'PENDING' THEN level ELSE 0 END,
                     CASE status WHEN 'PENDING' THEN seq >> 11 ELSE 0 END, kind, -1
              FROM removed) AS moved
        GROUP BY 1, 2, 3, 4, 5
        -- Progress, a heartbeat, a cancel that was asked for: most changes move nothing.
        HAVING sum(jobs) <> 0;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO job_count_change (queue, status, level, block, kind, jobs)
        SELECT queue, status, CASE status WHEN 'PENDING' THEN level ELSE 0 END,
               CASE status WHEN 'PENDING' THEN seq >> 11 ELSE 0 END, kind, -count(*)
        FROM removed GROUP BY 1, 2, 3, 4, 5;
    ELSE
        TRUNCATE job_count, ready_block, job_count_change;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER job_count_insert
AFTER INSERT ON job REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION job_count_change();

CREATE TRIGGER job_count_update
AFTER UPDATE ON job REFERENCING OLD TABLE AS removed NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION job_count_change();

CREATE TRIGGER job_count_delete
AFTER DELETE ON job REFERENCING OLD TABLE AS removed
FOR EACH STATEMENT EXECUTE FUNCTION job_count_change();

CREATE TRIGGER job_count_truncate
AFTER TRUNCATE ON job
FOR EACH STATEMENT EXECUTE FUNCTION job_count_change();

-- The triggers hold a lock against writers until the end of this transaction, so nothing slips between.
INSERT INTO job_count (queue, status, level, kind, jobs)
SELECT queue, status, CASE status WHEN 'PENDING' THEN level ELSE 0 END, kind, count(*)
FROM job GROUP BY 1, 2, 3, 4;
INSERT INTO ready_block (queue, level, block, kind, jobs)
SELECT queue, level, seq >> 11, kind, count(*) FROM job WHERE status = 'PENDING' GROUP BY 1, 2, 3, 4;
