CREATE INDEX job_of_client ON job (client_id, id) WITH (fillfactor = 50);
