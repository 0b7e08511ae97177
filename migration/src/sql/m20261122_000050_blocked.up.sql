-- max_queued_jobs_per_client: a client's jobs that wait for others. Only jobs with parents ever enter it.
CREATE INDEX job_blocked ON job (client_id) WHERE status = 'BLOCKED';
