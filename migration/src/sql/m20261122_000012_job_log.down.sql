DROP TABLE job_log;
DROP FUNCTION job_log_announce();
