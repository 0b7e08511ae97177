-- `client_job` is in its place. Those who are at work with jobs are waited for, and nobody waits behind that: it may be a dump.
DROP INDEX CONCURRENTLY IF EXISTS job_of_client;
