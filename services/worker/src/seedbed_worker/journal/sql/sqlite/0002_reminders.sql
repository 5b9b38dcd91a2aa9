CREATE TABLE reminder (
    type INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    key TEXT NOT NULL,
    method TEXT NOT NULL,
    name TEXT NOT NULL,
    due_ms INTEGER NOT NULL,
    every_ms INTEGER NOT NULL,
    count INTEGER NOT NULL,
    number INTEGER NOT NULL,
    begun_ms INTEGER NOT NULL,
    PRIMARY KEY (type, shard, key, method, name)
) WITHOUT ROWID;

CREATE INDEX reminder_due ON reminder (type, due_ms, shard, key, method, name);
