CREATE TABLE seedbed.reminder (
    type integer NOT NULL,
    shard integer NOT NULL,
    key text COLLATE "C" NOT NULL,
    method text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    due_ms bigint NOT NULL,
    every_ms bigint NOT NULL,
    count bigint NOT NULL,
    number bigint NOT NULL,
    begun_ms bigint NOT NULL,
    PRIMARY KEY (type, shard, key, method, name)
);

CREATE INDEX reminder_due ON seedbed.reminder (type, due_ms, shard, key, method, name);
