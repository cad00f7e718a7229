//! What others have written since, for a replica that has heard nothing for so long that not all of the batches are kept:
//! rows of three tables in the same columns.

use sandrun_core::pool::{ClientNumber, JobNumber, NodeNumber};
use sandrun_types::Attempt;
use tokio_postgres::Row;

use super::rows::{get, optional};
use crate::queue::codec::{narrow, unsigned, word_of};
use crate::queue::{ClientRow, Doing, Foreign, JobState, KeyRow, NodeRow, QueueStoreError};

/// Every row that the tables got after the batch `$1`. The upper bound `$2` takes nothing away: a range with two ends is
/// what the planner expects to be short, whatever its values.
pub(super) const NEWS: &str = "
    SELECT 1 AS kind, number, word, node, attempt, started, ended, client, open, reason, key, snapshot, NULL::BYTEA
    FROM queue_job WHERE changed > $1 AND changed <= $2
    UNION ALL
    SELECT 2, number, heard, completed, failed, NULL, NULL, NULL, NULL, id, endpoint, snapshot, announced
    FROM queue_node WHERE changed > $1 AND changed <= $2
    UNION ALL
    SELECT 3, number, NULL, NULL, NULL, NULL, NULL, NULL, NULL, name, NULL, NULL, NULL
    FROM queue_client WHERE changed > $1 AND changed <= $2";

/// What [`NEWS`] found, each list in the order of numbers.
pub(super) fn foreign(rows: &[Row], doing: Doing) -> Result<Foreign, QueueStoreError> {
    let mut foreign = Foreign::default();
    for row in rows {
        match get::<i32>(row, 0, doing)? {
            1 => {
                let job = job(row, doing)?;
                if let Some(key) = get(row, 10, doing)? {
                    foreign.keys.push(KeyRow {
                        client: ClientNumber(narrow(get(row, 7, doing)?)),
                        key,
                        job: job.number,
                    });
                }
                foreign.jobs.push(job);
            }
            2 => foreign.nodes.push(node(row, doing)?),
            _ => foreign.clients.push(ClientRow {
                number: ClientNumber(narrow(get(row, 1, doing)?)),
                name: get(row, 9, doing)?,
            }),
        }
    }
    foreign.jobs.sort_unstable_by_key(|job| job.number);
    foreign.keys.sort_unstable_by_key(|key| key.job);
    foreign.nodes.sort_unstable_by_key(|node| node.number);
    foreign.clients.sort_unstable_by_key(|client| client.number);
    Ok(foreign)
}

fn job(row: &Row, doing: Doing) -> Result<JobState, QueueStoreError> {
    Ok(JobState {
        number: JobNumber(unsigned(get(row, 1, doing)?)),
        word: word_of(get(row, 2, doing)?, doing)?,
        node: optional(row, 3, doing, |node| NodeNumber(narrow(node)))?,
        attempt: optional(row, 4, doing, |attempt| Attempt(narrow(attempt)))?,
        started: optional(row, 5, doing, unsigned)?,
        ended: optional(row, 6, doing, unsigned)?,
        open: get(row, 8, doing)?,
        reason: get(row, 9, doing)?,
        snapshot: get(row, 11, doing)?,
    })
}

fn node(row: &Row, doing: Doing) -> Result<NodeRow, QueueStoreError> {
    Ok(NodeRow {
        number: NodeNumber(narrow(get(row, 1, doing)?)),
        heard: unsigned(get(row, 2, doing)?),
        completed: unsigned(get(row, 3, doing)?),
        failed: unsigned(get(row, 4, doing)?),
        id: get(row, 9, doing)?,
        endpoint: get(row, 10, doing)?,
        snapshot: get(row, 11, doing)?,
        announced: get(row, 12, doing)?,
    })
}
