CREATE OR REPLACE FUNCTION job_announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('jobql_job', string_agg(entry, ','))
    FROM (SELECT id || ':' || status || ':' || version AS entry, (row_number() OVER () - 1) / 130 AS page
          FROM changed) AS entries
    GROUP BY page;
    PERFORM pg_notify('jobql_ready', queue)
    FROM (SELECT DISTINCT queue FROM changed WHERE status = 'PENDING') AS ready;
    RETURN NULL;
END $$;
