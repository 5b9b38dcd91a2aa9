CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    journal_id TEXT NOT NULL,
    timeline TEXT NOT NULL,
    cluster TEXT NOT NULL,
    cluster_uid TEXT NOT NULL
);

CREATE TABLE entity_type (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    shard_count INTEGER NOT NULL
);

CREATE TABLE fence (
    type INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    writer BLOB NOT NULL,
    last_off INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (type, shard)
) WITHOUT ROWID;

-- With a rowid: records lie in the order of their commits, so that a group dirties few pages.
CREATE TABLE journal (
    type INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    off INTEGER NOT NULL,
    key TEXT NOT NULL,
    seq INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    data BLOB NOT NULL,
    request_id TEXT,
    outcome BLOB NOT NULL,
    keep_until_ms INTEGER NOT NULL,
    time_ms INTEGER NOT NULL
);

CREATE UNIQUE INDEX journal_entity ON journal (type, shard, key, seq);
CREATE UNIQUE INDEX journal_tail ON journal (type, shard, off);
CREATE INDEX journal_request ON journal (type, shard, key, request_id)
    WHERE request_id IS NOT NULL;

CREATE TABLE snapshot (
    type INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    key TEXT NOT NULL,
    seq INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (type, shard, key)
);
