-- Lines of an attempt are numbered by the worker that runs it. An append holds the job's row against the end of the
-- attempt, so that the lines of a job become visible in the order of this key: a reader who goes on after the last
-- key that it has seen misses none.
CREATE TABLE job_log (
    job_id      uuid NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    lease_epoch integer NOT NULL,
    number      integer NOT NULL,
    at          timestamptz NOT NULL,
    stream      text NOT NULL,
    text        text NOT NULL,
    PRIMARY KEY (job_id, lease_epoch, number),
    CONSTRAINT job_log_stream_known CHECK (stream IN ('STDOUT', 'STDERR', 'SYSTEM'))
);

-- The ids of jobs that got lines, many to a payload: 200 of 37 bytes are below the 8,000 that NOTIFY allows.
CREATE FUNCTION job_log_announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('jobql_log', string_agg(job_id::text, ','))
    FROM (SELECT job_id, (row_number() OVER () - 1) / 200 AS page
          FROM (SELECT DISTINCT job_id FROM added) AS jobs) AS pages
    GROUP BY page;
    RETURN NULL;
END $$;

CREATE TRIGGER job_log_announce
AFTER INSERT ON job_log REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION job_log_announce();
