DROP TRIGGER job_refuse_transition ON job;
CREATE TRIGGER job_refuse_transition
BEFORE UPDATE ON job FOR EACH ROW
WHEN (OLD.status <> NEW.status AND NOT CASE OLD.status
    WHEN 'BLOCKED'   THEN NEW.status IN ('PENDING', 'SCHEDULED', 'CANCELLED')
    WHEN 'SCHEDULED' THEN NEW.status IN ('PENDING', 'CANCELLED')
    WHEN 'PENDING'   THEN NEW.status IN ('RUNNING', 'SCHEDULED', 'CANCELLED')
    WHEN 'RUNNING'   THEN NEW.status IN ('DONE', 'SCHEDULED', 'PENDING', 'ERROR', 'CANCELLED')
    WHEN 'ERROR'     THEN NEW.status IN ('PENDING', 'BLOCKED')
    WHEN 'CANCELLED' THEN NEW.status IN ('PENDING', 'BLOCKED')
    ELSE false
END)
EXECUTE FUNCTION job_refuse_transition();
DROP TRIGGER workflow_run_again ON job;
DROP FUNCTION workflow_run_again();
DROP TRIGGER job_note_end ON job;
CREATE OR REPLACE FUNCTION job_note_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO job_end (job_id) VALUES (NEW.id);
    RETURN NULL;
END $$;
CREATE TRIGGER job_note_end
AFTER UPDATE ON job FOR EACH ROW
WHEN (NEW.has_dependents AND OLD.status <> NEW.status AND NEW.status IN ('DONE', 'ERROR', 'CANCELLED'))
EXECUTE FUNCTION job_note_end();
DROP INDEX job_end_released;
DROP INDEX job_end_due;
DELETE FROM job_end WHERE released;
ALTER TABLE job_end DROP COLUMN released, DROP COLUMN workflow_id;
DROP INDEX job_results_due;
DROP INDEX job_active_of_workflow;
DROP INDEX job_of_workflow;
ALTER TABLE job DROP COLUMN results_as, DROP COLUMN workflow_key;
DROP TABLE workflow_callback;
DROP TABLE workflow;
