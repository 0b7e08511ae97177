DROP TRIGGER job_drop_dependencies ON job;
DROP FUNCTION job_drop_dependencies();
DROP TRIGGER job_note_end ON job;
DROP FUNCTION job_note_end();
DROP TABLE job_end;
DROP TABLE dependency;
ALTER TABLE job
    DROP COLUMN has_dependents,
    DROP COLUMN waits_for;
