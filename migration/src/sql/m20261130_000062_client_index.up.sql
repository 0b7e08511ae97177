-- `client_job` is in its place. A migration of its own: the lock that stops readers too is not waited for, nor held, while
-- that is filled.
DROP INDEX job_of_client;
