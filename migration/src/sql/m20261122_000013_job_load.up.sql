-- One row a minute for each kind that had active jobs. The key makes the sample of a minute one process's.
CREATE TABLE job_load (
    at        timestamptz NOT NULL,
    kind      text NOT NULL,
    pending   integer NOT NULL,
    scheduled integer NOT NULL,
    running   integer NOT NULL,
    PRIMARY KEY (at, kind)
);
