ALTER TABLE job ADD COLUMN callback_url text;

-- A job has a delivery once it has ended. `event` is the job's version at that end: it makes the message's id, which
-- stays the same however often the message is sent. A delivery is due at `next_at`; none while the job is active again.
CREATE TABLE callback_delivery (
    job_id       uuid PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE,
    event        integer NOT NULL,
    status       text NOT NULL DEFAULT 'WAITING',
    attempts     integer NOT NULL DEFAULT 0,
    next_at      timestamptz,
    last_error   text,
    delivered_at timestamptz,
    CONSTRAINT callback_status_known CHECK (status IN ('WAITING', 'DELIVERED', 'FAILED'))
);

-- deliver: what is due.
CREATE INDEX callback_due ON callback_delivery (next_at) WHERE status = 'WAITING' AND next_at IS NOT NULL;

-- The end of a job and the delivery of it are one transaction, whoever ends the job. Jobs without a callback, which is
-- most, call no function.
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
