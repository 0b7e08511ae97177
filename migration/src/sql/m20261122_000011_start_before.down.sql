ALTER TABLE job DROP CONSTRAINT job_error_when_error;
UPDATE job SET error = NULL, version = version + 1 WHERE status = 'CANCELLED' AND error IS NOT NULL;
ALTER TABLE job ADD CONSTRAINT job_error_when_error CHECK ((status = 'ERROR') = (error IS NOT NULL));
DROP INDEX job_start_before;
ALTER TABLE job DROP COLUMN start_before;
