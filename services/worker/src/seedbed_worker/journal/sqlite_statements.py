"""What the journal asks SQLite."""

from __future__ import annotations

from seedbed_worker.journal.port import DROPPED_AT_ONCE

BEGIN = "INSERT OR IGNORE INTO meta VALUES (1, ?, ?, ?, ?)"
WHOSE = "SELECT journal_id, timeline, cluster, cluster_uid FROM meta"
BIND = "UPDATE meta SET cluster_uid = ?"
SHARD_COUNTS = "SELECT name, shard_count FROM entity_type"
ENTER = "INSERT OR IGNORE INTO entity_type (name, shard_count) VALUES (?, ?)"
TYPES = "SELECT name, id FROM entity_type"
EPOCH = "SELECT epoch FROM fence WHERE type = ? AND shard = ?"
FENCED = """
SELECT last_off FROM fence WHERE type = ? AND shard = ? AND epoch = ? AND writer = ?
"""
TAKE = """
INSERT INTO fence (type, shard, epoch, writer) VALUES (?, ?, ?, ?)
ON CONFLICT (type, shard) DO UPDATE SET epoch = excluded.epoch, writer = excluded.writer
"""
INSERT = """
INSERT INTO journal (type, shard, off, epoch, key, seq, kind, data,
  request_id, outcome, keep_until_ms, time_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
COUNT = "UPDATE fence SET last_off = last_off + ? WHERE type = ? AND shard = ?"
NEWEST_FIRST = """
SELECT seq, kind, data FROM journal WHERE type = ? AND shard = ? AND key = ? ORDER BY seq DESC
"""
_KEPT = "SELECT request_id, outcome, time_ms, keep_until_ms FROM journal"
OUTCOMES = f"""
{_KEPT} WHERE type = ? AND shard = ? AND key = ? AND request_id IS NOT NULL
ORDER BY seq DESC LIMIT ?
"""
OUTCOME = f"""
{_KEPT} WHERE type = ? AND shard = ? AND key = ? AND request_id = ? ORDER BY seq DESC LIMIT 1
"""
SNAPSHOT = "SELECT seq, data FROM snapshot WHERE type = ? AND shard = ? AND key = ?"
KEEP_SNAPSHOT = """
INSERT INTO snapshot (type, shard, key, seq, data) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (type, shard, key) DO UPDATE SET seq = excluded.seq, data = excluded.data
WHERE excluded.seq > seq
"""
DROP = f"""
DELETE FROM journal WHERE rowid IN (
  SELECT rowid FROM journal
  WHERE type = ? AND shard = ? AND key = ? AND seq <= ? AND keep_until_ms <= ?
  ORDER BY seq LIMIT {DROPPED_AT_ONCE}
)
"""
TAIL = """
SELECT off, epoch, key, seq, kind, data, time_ms, ifnull(request_id, ''), outcome, keep_until_ms
FROM journal WHERE type = ? AND shard = ? AND off > ? ORDER BY off LIMIT ?
"""
