CREATE SCHEMA IF NOT EXISTS seedbed;

CREATE TABLE seedbed.schema_version (
    number integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE seedbed.meta (
    one integer PRIMARY KEY CHECK (one = 1),
    journal_id text NOT NULL,
    timeline text NOT NULL,
    cluster text NOT NULL,
    cluster_uid text NOT NULL
);

CREATE TABLE seedbed.entity_type (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    shard_count integer NOT NULL
);

-- Written by every append: with room in its pages, a row's new version goes beside the old one.
CREATE TABLE seedbed.fence (
    type integer NOT NULL,
    shard integer NOT NULL,
    epoch bigint NOT NULL,
    writer uuid NOT NULL,
    last_off bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (type, shard)
) WITH (fillfactor = 30);

-- Keys are compared by their bytes: no change of the server's locale can damage an index.
CREATE TABLE seedbed.journal (
    type integer NOT NULL,
    shard integer NOT NULL,
    off bigint NOT NULL,
    key text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    epoch bigint NOT NULL,
    kind smallint NOT NULL,
    data bytea NOT NULL,
    request_id text COLLATE "C",
    outcome bytea NOT NULL,
    keep_until_ms bigint NOT NULL,
    time_ms bigint NOT NULL,
    PRIMARY KEY (type, shard, key, seq)
);

CREATE UNIQUE INDEX journal_tail ON seedbed.journal (type, shard, off);
CREATE INDEX journal_request ON seedbed.journal (type, shard, key, request_id)
    WHERE request_id IS NOT NULL;

CREATE TABLE seedbed.snapshot (
    type integer NOT NULL,
    shard integer NOT NULL,
    key text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (type, shard, key)
);
