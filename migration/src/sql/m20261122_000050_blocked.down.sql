DROP INDEX job_blocked;
