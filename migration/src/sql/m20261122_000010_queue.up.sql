-- What was set about a queue. One without a row goes by the defaults, so that a new queue needs no write.
CREATE TABLE queue (
    name        text PRIMARY KEY,
    paused      boolean NOT NULL DEFAULT false,
    claim_order text NOT NULL DEFAULT 'FIFO',
    max_running integer,
    CONSTRAINT queue_name_length CHECK (char_length(name) BETWEEN 1 AND 128),
    CONSTRAINT queue_claim_order_known CHECK (claim_order IN ('FIFO', 'LIFO')),
    CONSTRAINT queue_max_running_range CHECK (max_running BETWEEN 1 AND 1000000)
);

-- A change of settings is announced like a change of jobs, by whomever it is made, and wakes workers: a queue that
-- was resumed or may run more has work for them.
CREATE FUNCTION queue_announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('jobql_queue', NEW.name);
    PERFORM pg_notify('jobql_ready', NEW.name);
    RETURN NULL;
END $$;

CREATE TRIGGER queue_announce
AFTER INSERT OR UPDATE ON queue
FOR EACH ROW EXECUTE FUNCTION queue_announce();
