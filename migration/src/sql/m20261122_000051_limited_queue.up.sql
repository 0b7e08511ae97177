-- An end in a queue with a limit makes room for the next job: whoever waits for work there is told, as of a job that became
-- ready. Without it short jobs ended no faster than the limit at each poll. Most queues have no row in `queue`, so they
-- pay next to nothing.
CREATE OR REPLACE FUNCTION job_announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('jobql_job', string_agg(entry, ','))
    FROM (SELECT id || ':' || status || ':' || version AS entry, (row_number() OVER () - 1) / 130 AS page
          FROM changed) AS entries
    GROUP BY page;
    PERFORM pg_notify('jobql_ready', queue)
    FROM (SELECT DISTINCT queue FROM changed
          WHERE status = 'PENDING'
              OR (status <> 'RUNNING' AND queue IN (SELECT name FROM queue WHERE max_running IS NOT NULL))) AS ready;
    RETURN NULL;
END $$;
