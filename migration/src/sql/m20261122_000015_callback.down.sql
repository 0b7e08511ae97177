DROP TABLE callback_delivery;
DROP TRIGGER job_callback_due ON job;
DROP TRIGGER job_callback_withdraw ON job;
DROP FUNCTION job_callback_due();
DROP FUNCTION job_callback_withdraw();
ALTER TABLE job DROP COLUMN callback_url;
