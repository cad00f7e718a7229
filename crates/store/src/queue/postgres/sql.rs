//! Statements of a batch: its row in the journal; later one for each table, rows as arrays.

pub(super) const CLIENTS: &str = "INSERT INTO queue_client (number, name, changed)
    SELECT t.number, t.name, $3 FROM UNNEST($1::BIGINT[], $2::TEXT[]) AS t (number, name)
    ON CONFLICT DO NOTHING";
pub(super) const NEW_JOBS: &str = "INSERT INTO queue_job (number, client, created, priority, blobs, parents, key, open,
        word, reason, node, attempt, started, ended, snapshot, changed)
    SELECT t.*, $16::BIGINT FROM UNNEST($1::BIGINT[], $2::BIGINT[], $3::BIGINT[], $4::BIGINT[], $5::BYTEA[], $6::BYTEA[],
        $7::TEXT[], $8::BOOLEAN[], $9::BIGINT[], $10::TEXT[], $11::BIGINT[], $12::BIGINT[], $13::BIGINT[], $14::BIGINT[],
        $15::BYTEA[]) AS t";
pub(super) const REQUESTS: &str =
    "INSERT INTO queue_request (job, body) SELECT * FROM UNNEST($1::BIGINT[], $2::BYTEA[])";
pub(super) const REQUESTS_OF: &str = "SELECT job, body FROM queue_request WHERE job = ANY($1)";
pub(super) const PARENTS: &str = "INSERT INTO queue_parent (parent, job)
    SELECT * FROM UNNEST($1::BIGINT[], $2::BIGINT[]) ON CONFLICT DO NOTHING";
pub(super) const USES: &str = "WITH noted AS (
        INSERT INTO queue_use (job, hash)
        SELECT t.job, t.hash FROM UNNEST($1::BIGINT[], $2::BYTEA[]) AS t (job, hash) JOIN queue_blob USING (hash)
        ON CONFLICT DO NOTHING RETURNING hash)
    UPDATE queue_blob b SET refs = b.refs + n.times
    FROM (SELECT hash, COUNT(*) AS times FROM noted GROUP BY hash) AS n WHERE b.hash = n.hash";
pub(super) const STATES: &str = "UPDATE queue_job j SET open = t.open, word = t.word, reason = t.reason, node = t.node,
        attempt = t.attempt, started = t.started, ended = t.ended, snapshot = t.snapshot, changed = $10
    FROM UNNEST($1::BIGINT[], $2::BOOLEAN[], $3::BIGINT[], $4::TEXT[], $5::BIGINT[], $6::BIGINT[], $7::BIGINT[],
        $8::BIGINT[], $9::BYTEA[])
        AS t (number, open, word, reason, node, attempt, started, ended, snapshot)
    WHERE j.number = t.number";
pub(super) const NODES: &str = "INSERT INTO queue_node (number, id, endpoint, announced, heard, completed, failed,
        snapshot, changed)
    SELECT t.*, $9::BIGINT FROM UNNEST($1::BIGINT[], $2::TEXT[], $3::TEXT[], $4::BYTEA[], $5::BIGINT[], $6::BIGINT[],
        $7::BIGINT[], $8::BYTEA[]) AS t
    ON CONFLICT (number) DO UPDATE SET id = excluded.id, endpoint = excluded.endpoint, announced = excluded.announced,
        heard = excluded.heard, completed = excluded.completed, failed = excluded.failed, snapshot = excluded.snapshot,
        changed = excluded.changed";
/// Of answers without files.
pub(super) const BARE_ANSWERS: &str =
    "INSERT INTO queue_answer (job, attempt, node, exit_code, stdout, stderr, outputs,
        receipt, signature, details)
    SELECT t.* FROM UNNEST($1::BIGINT[], $2::BIGINT[], $3::BIGINT[], $4::INT[], $5::BYTEA[], $6::BYTEA[],
        $7::BYTEA[], $8::BYTEA[], $9::BYTEA[], $10::BYTEA[])
        AS t (job, attempt, node, exit_code, stdout, stderr, outputs, receipt, signature, details)
    JOIN queue_job j ON j.number = t.job
    ON CONFLICT DO NOTHING";
pub(super) const ANSWERS: &str = "WITH fresh AS (
        INSERT INTO queue_answer (job, attempt, node, exit_code, stdout, stderr, outputs, receipt, signature, details,
            output_root)
        SELECT t.* FROM UNNEST($1::BIGINT[], $2::BIGINT[], $3::BIGINT[], $4::INT[], $5::BYTEA[], $6::BYTEA[],
            $7::BYTEA[], $8::BYTEA[], $9::BYTEA[], $10::BYTEA[], $14::BYTEA[])
            AS t (job, attempt, node, exit_code, stdout, stderr, outputs, receipt, signature, details, output_root)
        JOIN queue_job j ON j.number = t.job
        ON CONFLICT DO NOTHING RETURNING job, attempt),
    noted AS (
        INSERT INTO queue_use (job, hash)
        SELECT DISTINCT u.job, u.hash FROM UNNEST($11::BIGINT[], $12::BIGINT[], $13::BYTEA[]) AS u (job, attempt, hash)
        JOIN fresh USING (job, attempt) JOIN queue_blob b ON b.hash = u.hash
        ON CONFLICT DO NOTHING RETURNING hash)
    UPDATE queue_blob b SET refs = b.refs + n.times
    FROM (SELECT hash, COUNT(*) AS times FROM noted GROUP BY hash) AS n WHERE b.hash = n.hash";
pub(super) const LOGS: &str = "INSERT INTO queue_log AS l (job, stream, attempt, start, bytes)
    SELECT t.* FROM UNNEST($1::BIGINT[], $2::BIGINT[], $3::BIGINT[], $4::BIGINT[], $5::BYTEA[])
        AS t (job, stream, attempt, start, bytes)
    JOIN queue_job j ON j.number = t.job
    ON CONFLICT (job, stream, attempt, start) DO UPDATE SET bytes = excluded.bytes
        WHERE LENGTH(excluded.bytes) > LENGTH(l.bytes)";
/// The batch in one row. Values: its number, its writer's mark, the highest numbers after it, changes, rest.
pub(super) const BATCH: &str =
    "INSERT INTO queue_batch (seq, writer, last_job, last_node, last_client, changes, rest)
    VALUES ($1, $2, $3, $4, $5, $6, $7)";
/// The batch `$1` itself, without its changes, and those after it. The upper bound takes nothing away: a range with two ends
/// is what the planner expects to be short, whatever its values.
pub(super) const SINCE: &str = "SELECT seq, writer, last_job, last_node, last_client,
        CASE WHEN seq > $1 THEN changes END
    FROM queue_batch WHERE seq >= $1 AND seq <= $2 ORDER BY seq";
/// Whose batch it is.
pub(super) const WRITERS: &str = "SELECT seq, writer FROM queue_batch WHERE seq = ANY($1)";
/// The oldest batch that is kept.
pub(super) const OLDEST: &str = "SELECT COALESCE(MIN(seq), 0) FROM queue_batch";
/// The latest one.
pub(super) const LATEST: &str = "SELECT COALESCE(MAX(seq), 0) FROM queue_batch";
/// Whether there are batches that the tables do not hold yet.
pub(super) const IS_UNMERGED: &str = "SELECT EXISTS (
    SELECT 1 FROM queue_batch WHERE seq > (SELECT merged FROM queue_counter WHERE id = 1))";
pub(super) const COUNTERS: &str =
    "SELECT merged, last_job, last_node, last_client FROM queue_counter WHERE id = 1";
/// Batches that the tables do not hold yet, at most `$1` bytes of them and always the first, and at most `$2`.
pub(super) const UNMERGED: &str = "SELECT seq, last_job, last_node, last_client, changes, rest FROM (
        SELECT *, SUM(LENGTH(changes)::BIGINT + LENGTH(rest)) OVER (ORDER BY seq) - LENGTH(changes) - LENGTH(rest) AS before
        FROM (
            SELECT * FROM queue_batch WHERE seq > (SELECT merged FROM queue_counter WHERE id = 1)
            ORDER BY seq LIMIT $2) AS next) AS sized
    WHERE before < $1::BIGINT ORDER BY seq";
/// All up to the batch `$1` is in the tables.
pub(super) const MERGED: &str = "UPDATE queue_counter SET merged = $1, last_job = GREATEST(last_job, $2),
    last_node = GREATEST(last_node, $3), last_client = GREATEST(last_client, $4) WHERE id = 1";
/// Empties merged batches of what only the tables are asked for, where that is much.
pub(super) const EMPTY: &str = "UPDATE queue_batch SET rest = '' WHERE seq = ANY($1)";
/// Empties all merged batches so.
pub(super) const EMPTY_ALL: &str = "UPDATE queue_batch SET rest = ''
    WHERE seq >= 0 AND seq <= (SELECT merged FROM queue_counter WHERE id = 1) AND LENGTH(rest) > 0";
/// Forgets batches that nobody has to catch up with.
pub(super) const FORGET: &str = "DELETE FROM queue_batch WHERE seq >= 0 AND seq <= $1";
/// Brings all that was committed before, by anybody, to the disk: a message in PostgreSQL's log that nobody reads, and a
/// commit that waits.
pub(super) const FLUSH: &str =
    "SELECT set_config('synchronous_commit', 'on', true), pg_logical_emit_message(true, 'sandrun-pool', '')";
