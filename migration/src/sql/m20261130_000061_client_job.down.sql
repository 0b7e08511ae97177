DROP TRIGGER client_job_insert ON job;
DROP TRIGGER client_job_update ON job;
DROP TRIGGER client_job_delete ON job;
DROP TRIGGER client_job_truncate ON job;
DROP FUNCTION client_job_add();
DROP FUNCTION client_job_follow();
DROP TABLE client_job;
