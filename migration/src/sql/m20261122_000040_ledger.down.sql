DROP TRIGGER job_count_truncate ON job;
DROP TRIGGER job_count_delete ON job;
DROP TRIGGER job_count_update ON job;
DROP TRIGGER job_count_insert ON job;
DROP FUNCTION job_count_change();
DROP TABLE job_count_change, ready_block, job_count;
