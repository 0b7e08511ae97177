DROP TRIGGER job_concern_others ON job;
DROP FUNCTION job_concern_others();

CREATE FUNCTION job_callback_due() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO callback_delivery (job_id, event, next_at) VALUES (NEW.id, NEW.version, now())
    ON CONFLICT (job_id) DO UPDATE
    SET event = NEW.version, status = 'WAITING', attempts = 0, next_at = now(), last_error = NULL, delivered_at = NULL;
    RETURN NULL;
END $$;

CREATE TRIGGER job_callback_due
AFTER UPDATE ON job FOR EACH ROW
WHEN (NEW.callback_url IS NOT NULL AND OLD.status <> NEW.status AND NEW.status IN ('DONE', 'ERROR', 'CANCELLED'))
EXECUTE FUNCTION job_callback_due();

CREATE FUNCTION job_callback_withdraw() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE callback_delivery SET status = 'WAITING', attempts = 0, next_at = NULL WHERE job_id = NEW.id;
    RETURN NULL;
END $$;

CREATE TRIGGER job_callback_withdraw
AFTER UPDATE ON job FOR EACH ROW
WHEN (NEW.callback_url IS NOT NULL AND OLD.status IN ('ERROR', 'CANCELLED') AND NEW.status IN ('PENDING', 'BLOCKED'))
EXECUTE FUNCTION job_callback_withdraw();

CREATE FUNCTION job_note_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO job_end (job_id, workflow_id, released) VALUES (NEW.id, NEW.workflow_id, NOT NEW.has_dependents);
    RETURN NULL;
END $$;

CREATE TRIGGER job_note_end
AFTER UPDATE ON job FOR EACH ROW
WHEN ((NEW.has_dependents OR NEW.workflow_id IS NOT NULL)
      AND OLD.status <> NEW.status AND NEW.status IN ('DONE', 'ERROR', 'CANCELLED'))
EXECUTE FUNCTION job_note_end();

CREATE FUNCTION workflow_run_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM workflow WHERE id = NEW.workflow_id FOR NO KEY UPDATE;
    UPDATE workflow SET status = 'RUNNING', finished_at = NULL WHERE id = NEW.workflow_id AND status <> 'RUNNING';
    IF FOUND THEN
        UPDATE workflow_callback SET status = 'WAITING', attempts = 0, next_at = NULL WHERE workflow_id = NEW.workflow_id;
        PERFORM pg_notify('jobql_workflow', NEW.workflow_id::text);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER workflow_run_again
AFTER UPDATE ON job FOR EACH ROW
WHEN (NEW.workflow_id IS NOT NULL AND OLD.status IN ('ERROR', 'CANCELLED')
      AND (NEW.status = 'PENDING' OR (NEW.status = 'BLOCKED' AND NEW.waits_for = 0)))
EXECUTE FUNCTION workflow_run_again();

ALTER INDEX job_of_client RESET (fillfactor);
ALTER INDEX job_pkey RESET (fillfactor);
