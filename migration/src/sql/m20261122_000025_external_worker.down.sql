DROP TABLE lease_key;
DROP TABLE claim;
DROP INDEX worker_of_owner;
ALTER TABLE worker DROP COLUMN owner, DROP COLUMN lease_seconds;
