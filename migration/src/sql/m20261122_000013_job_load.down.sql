DROP TABLE job_load;
