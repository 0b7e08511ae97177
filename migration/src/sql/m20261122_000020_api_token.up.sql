-- A token is known by the SHA-256 of its secret; 256 random bits need no salt and no slow hash. Rows are never deleted: one
-- that was ever made says that tokens are in use, so that revoking the last one does not open the door.
CREATE TABLE api_token (
    id          uuid PRIMARY KEY,
    name        text NOT NULL,
    scope       text NOT NULL,
    client_id   text,
    kinds       text[],
    secret_hash bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz,
    revoked_at  timestamptz,

    -- verify: the token of a request.
    CONSTRAINT api_token_secret_hash UNIQUE (secret_hash),
    CONSTRAINT api_token_hash_length CHECK (octet_length(secret_hash) = 32),
    CONSTRAINT api_token_name_length CHECK (char_length(name) <= 128),
    CONSTRAINT api_token_scope_known CHECK (scope IN ('CLIENT', 'WORKER', 'OPERATOR')),
    CONSTRAINT api_token_client_has_an_id CHECK (
        (scope = 'CLIENT') = (client_id IS NOT NULL)
        AND (client_id IS NULL OR char_length(client_id) BETWEEN 1 AND 128)),
    CONSTRAINT api_token_worker_has_kinds CHECK (
        (scope = 'WORKER') = (kinds IS NOT NULL) AND (kinds IS NULL OR cardinality(kinds) > 0))
);

-- A hint that says to look again; the payload is empty, so no number of changes in one transaction makes more than one.
CREATE FUNCTION api_token_announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('jobql_token', '');
    RETURN NULL;
END $$;

CREATE TRIGGER api_token_announce
AFTER INSERT OR UPDATE OR DELETE ON api_token
FOR EACH STATEMENT EXECUTE FUNCTION api_token_announce();
