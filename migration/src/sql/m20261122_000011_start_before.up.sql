ALTER TABLE job ADD COLUMN start_before timestamptz;

-- expire: what must be given up. Jobs without such a time, which is most, are not in it and pay nothing.
CREATE INDEX job_start_before ON job (start_before)
WHERE start_before IS NOT NULL AND lease_epoch = 0 AND status IN ('BLOCKED', 'SCHEDULED', 'PENDING');

-- A job that was given up is CANCELLED, and its error says why (EXPIRED). One that was cancelled on request has none.
ALTER TABLE job DROP CONSTRAINT job_error_when_error;
ALTER TABLE job ADD CONSTRAINT job_error_when_error CHECK (
    CASE status WHEN 'ERROR' THEN error IS NOT NULL WHEN 'CANCELLED' THEN true ELSE error IS NULL END);
