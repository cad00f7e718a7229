-- A queue as programs from before the journal `queue_batch` left it (schema 3), with a job that waits and one that ended.
CREATE TABLE queue_schema (id INT PRIMARY KEY CHECK (id = 1), version BIGINT NOT NULL);
INSERT INTO queue_schema VALUES (1, 3);
CREATE TABLE queue_counter (
    id INT PRIMARY KEY CHECK (id = 1), seq BIGINT NOT NULL, last_job BIGINT NOT NULL, last_node BIGINT NOT NULL,
    last_client BIGINT NOT NULL
);
INSERT INTO queue_counter VALUES (1, 0, 0, 0, 0);
CREATE TABLE queue_kept (name TEXT PRIMARY KEY, value BYTEA NOT NULL);
CREATE TABLE queue_client (number BIGINT PRIMARY KEY, name TEXT NOT NULL UNIQUE, changed BIGINT NOT NULL);
CREATE INDEX queue_client_changed ON queue_client (changed);
CREATE TABLE queue_job (
    number BIGINT PRIMARY KEY, client BIGINT NOT NULL, created BIGINT NOT NULL, priority BIGINT NOT NULL,
    blobs BYTEA NOT NULL, parents BYTEA NOT NULL, key TEXT, open BOOLEAN NOT NULL, word BIGINT NOT NULL, reason TEXT,
    node BIGINT, attempt BIGINT, started BIGINT, ended BIGINT, snapshot BYTEA NOT NULL, changed BIGINT NOT NULL
);
CREATE INDEX queue_job_changed ON queue_job (changed);
CREATE INDEX queue_job_open ON queue_job (number) WHERE open;
CREATE INDEX queue_job_by_word ON queue_job (word, number);
CREATE INDEX queue_job_by_client ON queue_job (client, number);
CREATE INDEX queue_job_by_client_and_word ON queue_job (client, word, number);
CREATE INDEX queue_job_by_key ON queue_job (client, key) WHERE key IS NOT NULL;
CREATE INDEX queue_job_by_end ON queue_job (ended) WHERE NOT open;
CREATE TABLE queue_request (job BIGINT PRIMARY KEY, body BYTEA NOT NULL);
CREATE TABLE queue_parent (parent BIGINT NOT NULL, job BIGINT NOT NULL, PRIMARY KEY (parent, job));
CREATE INDEX queue_parent_of ON queue_parent (job);
CREATE TABLE queue_node (
    number BIGINT PRIMARY KEY, id TEXT NOT NULL, endpoint TEXT NOT NULL, announced BYTEA NOT NULL,
    heard BIGINT NOT NULL, completed BIGINT NOT NULL, failed BIGINT NOT NULL, snapshot BYTEA NOT NULL,
    changed BIGINT NOT NULL
);
CREATE TABLE queue_answer (
    job BIGINT NOT NULL, attempt BIGINT NOT NULL, node BIGINT NOT NULL, exit_code INT, stdout BYTEA NOT NULL,
    stderr BYTEA NOT NULL, outputs BYTEA NOT NULL, receipt BYTEA, signature BYTEA, details BYTEA NOT NULL,
    PRIMARY KEY (job, attempt)
);
CREATE TABLE queue_log (
    job BIGINT NOT NULL, stream BIGINT NOT NULL, attempt BIGINT NOT NULL, start BIGINT NOT NULL, bytes BYTEA NOT NULL,
    PRIMARY KEY (job, stream, attempt, start)
);
CREATE TABLE queue_blob (
    id BIGSERIAL PRIMARY KEY, hash BYTEA UNIQUE, size BIGINT NOT NULL, touched BIGINT NOT NULL,
    refs BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX queue_blob_unused ON queue_blob (touched) WHERE refs = 0 AND hash IS NOT NULL;
CREATE INDEX queue_blob_nameless ON queue_blob (id) WHERE hash IS NULL;
CREATE TABLE queue_chunk (
    blob BIGINT NOT NULL, number BIGINT NOT NULL, data BYTEA NOT NULL, PRIMARY KEY (blob, number)
);
ALTER TABLE queue_chunk ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE TABLE queue_use (job BIGINT NOT NULL, hash BYTEA NOT NULL, PRIMARY KEY (job, hash));
-- each change of a job's row writes into every index that it is in
DROP INDEX queue_job_by_client_and_word;
ALTER TABLE queue_answer ADD COLUMN output_root BYTEA;
CREATE INDEX queue_answer_by_output_root ON queue_answer (output_root, job) WHERE output_root IS NOT NULL;
INSERT INTO queue_client VALUES (1, 'ann', 1);
INSERT INTO queue_job (number, client, created, priority, blobs, parents, key, open, word, snapshot, changed)
    VALUES (1, 1, 1, 4, '', '', 'first', true, 0, 'waits', 1);
INSERT INTO queue_job (number, client, created, priority, blobs, parents, key, open, word, node, attempt, ended, snapshot, changed)
    VALUES (2, 1, 1, 4, '', '', NULL, false, 3, 1, 1, 9, 'ended', 2);
INSERT INTO queue_request VALUES (1, 'first'), (2, 'second');
INSERT INTO queue_node VALUES (1, 'node-1', 'http://node', '{}', 7, 1, 0, 'node', 2);
INSERT INTO queue_answer (job, attempt, node, exit_code, stdout, stderr, outputs, details)
    VALUES (2, 1, 1, 0, 'out', '', '[]', '');
UPDATE queue_counter SET seq = 2, last_job = 2, last_node = 1, last_client = 1;
