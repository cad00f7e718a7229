//! Statements of a batch: one for each table, its rows as arrays, and one for the batches that most are.

pub(super) const CLIENTS: &str = "INSERT INTO queue_client (number, name, changed)
    SELECT t.number, t.name, $3 FROM UNNEST($1::BIGINT[], $2::TEXT[]) AS t (number, name)
    ON CONFLICT (number) DO NOTHING";
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
pub(super) const COUNT: &str = "UPDATE queue_counter SET seq = $1, last_job = GREATEST(last_job, $2),
    last_node = GREATEST(last_node, $3), last_client = GREATEST(last_client, $4) WHERE id = 1";
/// What most batches are, claims and answers without files, in one statement: changes of jobs (`$1` to `$10`), nodes
/// (`$11` to `$18`), bare answers (`$19` to `$28`), the counters (`$29` to `$31`; `$10` is the batch's number). Each
/// statement less is one answer less that is sent and read while the lock is held.
pub(super) const PLAIN: &str = "WITH states AS (
        UPDATE queue_job j SET open = t.open, word = t.word, reason = t.reason, node = t.node, attempt = t.attempt,
            started = t.started, ended = t.ended, snapshot = t.snapshot, changed = $10
        FROM UNNEST($1::BIGINT[], $2::BOOLEAN[], $3::BIGINT[], $4::TEXT[], $5::BIGINT[], $6::BIGINT[], $7::BIGINT[],
            $8::BIGINT[], $9::BYTEA[])
            AS t (number, open, word, reason, node, attempt, started, ended, snapshot)
        WHERE j.number = t.number),
    nodes AS (
        INSERT INTO queue_node (number, id, endpoint, announced, heard, completed, failed, snapshot, changed)
        SELECT t.*, $10::BIGINT FROM UNNEST($11::BIGINT[], $12::TEXT[], $13::TEXT[], $14::BYTEA[], $15::BIGINT[],
            $16::BIGINT[], $17::BIGINT[], $18::BYTEA[]) AS t
        ON CONFLICT (number) DO UPDATE SET id = excluded.id, endpoint = excluded.endpoint,
            announced = excluded.announced, heard = excluded.heard, completed = excluded.completed,
            failed = excluded.failed, snapshot = excluded.snapshot, changed = excluded.changed),
    answers AS (
        INSERT INTO queue_answer (job, attempt, node, exit_code, stdout, stderr, outputs, receipt, signature, details)
        SELECT t.* FROM UNNEST($19::BIGINT[], $20::BIGINT[], $21::BIGINT[], $22::INT[], $23::BYTEA[], $24::BYTEA[],
            $25::BYTEA[], $26::BYTEA[], $27::BYTEA[], $28::BYTEA[])
            AS t (job, attempt, node, exit_code, stdout, stderr, outputs, receipt, signature, details)
        JOIN queue_job j ON j.number = t.job
        ON CONFLICT DO NOTHING)
    UPDATE queue_counter SET seq = $10, last_job = GREATEST(last_job, $29), last_node = GREATEST(last_node, $30),
        last_client = GREATEST(last_client, $31) WHERE id = 1";
/// Brings all that was committed before, by anybody, to the disk: a message in PostgreSQL's log that nobody reads, and a
/// commit that waits.
pub(super) const FLUSH: &str =
    "SELECT set_config('synchronous_commit', 'on', true), pg_logical_emit_message(true, 'sandrun-pool', '')";
