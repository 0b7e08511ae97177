-- Attempts that ended and the seconds that they took, per kind and minute. Workers add up in memory and write here now
-- and then, so that the end of a job costs nothing more.
CREATE TABLE kind_duration (
    kind    text NOT NULL,
    minute  timestamptz NOT NULL,
    jobs    integer NOT NULL,
    seconds double precision NOT NULL,
    PRIMARY KEY (kind, minute)
);
