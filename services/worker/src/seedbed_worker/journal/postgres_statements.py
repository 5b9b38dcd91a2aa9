"""What the journal asks PostgreSQL: each is one statement, which needs nothing of its session.

So a connection pooler that gives each transaction another server does no harm.
"""

from __future__ import annotations

from seedbed_worker.journal.port import DROPPED_AT_ONCE

APPEND = """
WITH asked AS MATERIALIZED (
  SELECT * FROM unnest($1::int[], $2::int[], $3::bigint[], $4::uuid[], $5::int[])
    WITH ORDINALITY AS a (type, shard, epoch, writer, records, place)
), held AS MATERIALIZED (
  SELECT a.place, a.records, f.type, f.shard, f.epoch, f.writer
  FROM seedbed.fence f JOIN asked a USING (type, shard, epoch, writer)
  ORDER BY f.type, f.shard FOR NO KEY UPDATE OF f
), moved AS (
  UPDATE seedbed.fence f SET last_off = f.last_off + h.records FROM held h
  WHERE (f.type, f.shard, f.epoch, f.writer) = (h.type, h.shard, h.epoch, h.writer)
  RETURNING h.place, f.type, f.shard, f.epoch, f.last_off - h.records AS before
), written AS (
  INSERT INTO seedbed.journal (type, shard, off, epoch, key, seq, kind, data,
    request_id, outcome, keep_until_ms, time_ms)
  SELECT m.type, m.shard, m.before + r.nth, m.epoch, r.key, r.seq, r.kind, r.data,
    nullif(r.request_id, ''), r.outcome, r.keep_until_ms, r.time_ms
  FROM unnest($6::int[], $7::int[], $8::text[], $9::bigint[], $10::smallint[], $11::bytea[],
      $12::text[], $13::bytea[], $14::bigint[], $15::bigint[])
    AS r (place, nth, key, seq, kind, data, request_id, outcome, keep_until_ms, time_ms)
  JOIN moved m USING (place)
), appointments AS MATERIALIZED (
  SELECT m.type, m.shard, a.key, a.method, a.name, a.due_ms, a.every_ms, a.count, a.number,
    a.begun_ms
  FROM unnest($20::int[], $21::text[], $22::text[], $23::text[], $24::bigint[], $25::bigint[],
      $26::bigint[], $27::bigint[], $28::bigint[])
    AS a (place, key, method, name, due_ms, every_ms, count, number, begun_ms)
  JOIN moved m USING (place)
), dropped AS (
  DELETE FROM seedbed.reminder r
  USING unnest($16::int[], $17::text[], $18::text[], $19::text[]) AS d (place, key, method, name)
  JOIN moved m USING (place)
  WHERE (r.type, r.shard, r.key) = (m.type, m.shard, d.key)
    AND (d.method IS NULL OR (r.method, r.name) = (d.method, d.name))
    AND NOT EXISTS (
      SELECT FROM appointments a
      WHERE (a.type, a.shard, a.key, a.method, a.name) = (r.type, r.shard, r.key, r.method, r.name)
    )
), made AS (
  INSERT INTO seedbed.reminder (type, shard, key, method, name, due_ms, every_ms, count, number,
    begun_ms)
  SELECT * FROM appointments
  ON CONFLICT (type, shard, key, method, name) DO UPDATE SET due_ms = excluded.due_ms,
    every_ms = excluded.every_ms, count = excluded.count, number = excluded.number,
    begun_ms = excluded.begun_ms
)
SELECT place::int FROM moved
"""
"""Groups: type, shard, epoch, writer, how many records. Records: place of their group (from 1),
place in the group (from 1), and what a record has. Reminders that go: place of their group, key,
method and name, both null for all of the entity. Those that are set, each once: likewise, and the
appointment. Returns the places of the groups that are written.

Fence rows are locked in one order, so that no two appends can wait for each other.
"""

SNAPSHOT = f"""
WITH patience AS MATERIALIZED (
  SELECT set_config('lock_timeout', $11, true), set_config('synchronous_commit', 'off', true)
), asked AS MATERIALIZED (
  SELECT a.* FROM patience, unnest($1::int[], $2::int[], $3::bigint[], $4::uuid[])
    WITH ORDINALITY AS a (type, shard, epoch, writer, place)
), held AS MATERIALIZED (
  SELECT a.place, f.type, f.shard
  FROM seedbed.fence f JOIN asked a USING (type, shard, epoch, writer)
  ORDER BY f.type, f.shard FOR SHARE OF f
), new AS MATERIALIZED (
  SELECT h.type, h.shard, s.key, s.seq, s.data, s.time_ms
  FROM unnest($5::int[], $6::text[], $7::bigint[], $8::bytea[], $9::bigint[])
    AS s (place, key, seq, data, time_ms)
  JOIN held h USING (place)
), kept AS (
  INSERT INTO seedbed.snapshot AS old (type, shard, key, seq, data)
  SELECT type, shard, key, seq, data FROM new
  ON CONFLICT (type, shard, key) DO UPDATE SET seq = excluded.seq, data = excluded.data
  WHERE excluded.seq > old.seq
)
DELETE FROM seedbed.journal j USING new n CROSS JOIN LATERAL (
  SELECT seq FROM seedbed.journal
  WHERE (type, shard, key) = (n.type, n.shard, n.key)
    AND seq <= n.seq - $10::bigint AND keep_until_ms <= n.time_ms
  ORDER BY seq LIMIT {DROPPED_AT_ONCE}
) dropped
WHERE (j.type, j.shard, j.key, j.seq) = (n.type, n.shard, n.key, dropped.seq)
"""
"""Groups: type, shard, epoch, writer. Snapshots: place of their group (from 1), key, seq, data,
time. Then how many records behind each are kept (null: all), and how long to wait for a lock.

Locked fence rows keep out a `take`, which who erases an entity begins with. Nobody waits for the
disk: what was committed before is in it before this is.
"""

TAKE = """
WITH patience AS MATERIALIZED (SELECT set_config('lock_timeout', $5, true))
INSERT INTO seedbed.fence AS f (type, shard, epoch, writer)
SELECT $1::int, $2::int, $3::bigint, $4::uuid FROM patience
ON CONFLICT (type, shard) DO UPDATE SET epoch = excluded.epoch, writer = excluded.writer
WHERE f.epoch <= excluded.epoch
RETURNING epoch
"""
"""Returns no row where a higher epoch is. The setting ends with the statement's transaction."""

EPOCH = "SELECT epoch FROM seedbed.fence WHERE (type, shard) = ($1, $2)"

HOLDS = """
SELECT 1 FROM seedbed.fence WHERE (type, shard, epoch, writer) = ($1, $2, $3, $4)
"""

LOAD = """
WITH entity AS MATERIALIZED (
  SELECT a.key, s.seq, s.data
  FROM unnest($3::text[]) AS a (key)
  LEFT JOIN seedbed.snapshot s ON (s.type, s.shard, s.key) = ($1, $2, a.key)
)
SELECT key, seq, NULL::smallint AS kind, data FROM entity WHERE seq IS NOT NULL
UNION ALL
SELECT e.key, j.seq, j.kind, j.data FROM entity e CROSS JOIN LATERAL (
  SELECT seq, kind, data FROM seedbed.journal
  WHERE (type, shard, key) = ($1, $2, e.key) AND seq >= coalesce((
    SELECT whole.seq FROM seedbed.journal whole
    WHERE (whole.type, whole.shard, whole.key) = ($1, $2, e.key) AND whole.kind NOT IN ($4, $5)
      AND whole.seq > coalesce(e.seq, 0)
    ORDER BY whole.seq DESC LIMIT 1
  ), e.seq + 1, 1)
) j
ORDER BY key, seq DESC
"""
"""Type, shard, keys, the kinds EVENTS and NOTE. An entity's records, newest first, from the last
one that is more than that or from its snapshot on; then the snapshot, of no kind. In one statement,
since records behind a newer snapshot may go at any time.
"""

TAIL = """
SELECT off, epoch, key, seq, kind, data, time_ms, coalesce(request_id, '') AS request_id, outcome,
  keep_until_ms
FROM seedbed.journal WHERE (type, shard) = ($1, $2) AND off > $3 ORDER BY off LIMIT $4
"""

_KEPT = """
SELECT request_id, outcome, time_ms, keep_until_ms FROM seedbed.journal
WHERE (type, shard, key) = ($1, $2, $3) AND request_id """

OUTCOMES = f"{_KEPT} IS NOT NULL ORDER BY seq DESC LIMIT $4"
OUTCOME = f"{_KEPT} = $4 ORDER BY seq DESC LIMIT 1"

REMINDERS = """
SELECT shard, key, method, name, due_ms, every_ms, count, number, begun_ms FROM seedbed.reminder
WHERE type = $1 AND shard = ANY($2::int[]) AND due_ms <= $3
  AND (due_ms, shard, key, method, name) > ($4, $5, $6, $7, $8)
ORDER BY due_ms, shard, key, method, name LIMIT $9
"""

WHOSE = "SELECT journal_id, timeline, cluster, cluster_uid FROM seedbed.meta"

BEGIN = """
INSERT INTO seedbed.meta (one, journal_id, timeline, cluster, cluster_uid)
VALUES (1, $1, $2, $3, $4) ON CONFLICT (one) DO NOTHING
"""

BIND = "UPDATE seedbed.meta SET cluster_uid = $1 WHERE cluster_uid = ''"

REBIND = "UPDATE seedbed.meta SET cluster_uid = $1"
PROBE = "UPDATE seedbed.meta SET cluster_uid = cluster_uid"

TYPES = "SELECT name, id, shard_count FROM seedbed.entity_type"

ENTER = """
INSERT INTO seedbed.entity_type (name, shard_count)
SELECT name, count::int FROM unnest($1::text[], $2::text[]) AS a (name, count) ORDER BY name
ON CONFLICT (name) DO NOTHING
"""

DURABILITY = """
SELECT current_setting('synchronous_commit') AS waits,
  current_setting('synchronous_standby_names') AS standbys
"""
