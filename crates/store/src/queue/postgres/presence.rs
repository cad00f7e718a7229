//! A replica's presence: an advisory lock under its number, on a connection that is never quiet for long.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Config, Statement};

use super::session::{Role, Session, configured};
use crate::queue::codec::narrow;
use crate::queue::error::DatabaseError;
use crate::queue::{Doing, Living, Presence, QueueStoreError, ReplicaId};

const DOING: Doing = "say that this replica lives";
/// Pause between two looks at who lives.
const LOOK: Duration = Duration::from_millis(200);
/// Silence after which the server takes a replica for dead.
const SILENCE: &str =
    "SELECT set_config(name, '3s', false) FROM pg_settings WHERE name = 'idle_session_timeout'";
/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long nobody is taken for dead after a connection broke: the others' may have broken with it.
const GRACE: Duration = Duration::from_secs(1);
/// Numbers that are drawn at most.
const DRAWS: u32 = 16;

/// Locks of services whose tables lie in different schemas have nothing to do with each other.
macro_rules! class {
    () => {
        "(HASHTEXT('sandrun replicas of ' || CURRENT_SCHEMA()) & 1073741823)"
    };
}
const ENTER: &str = concat!("SELECT PG_TRY_ADVISORY_LOCK(", class!(), ", $1::INT)");
const LIVING: &str = concat!(
    "SELECT objid::BIGINT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = CURRENT_DATABASE())
        AND classid::BIGINT = ",
    class!()
);

/// Draws a number that nobody has, and stays under it.
pub(in crate::queue) async fn join(
    config: &Config,
    draw: &mut (dyn FnMut() -> u32 + Send),
) -> Result<Presence, QueueStoreError> {
    let config = configured(config);
    for _ in 0..DRAWS {
        // as many bits as a lock's number has without its sign
        let id = ReplicaId(draw() >> 1);
        let Some(seat) = Seat::take(&config, id).await? else {
            continue;
        };
        let replicas = seat.living().await?;
        let (told, receiver) = watch::channel(Living { replicas, look: 1 });
        let task = tokio::spawn(stay(config, id, seat, told));
        return Ok(Presence::new(id, receiver, task.abort_handle()));
    }
    Err(QueueStoreError::Lost {
        doing: DOING,
        source: DatabaseError::Closed,
    })
}

/// Says who lives, for ever.
async fn stay(config: Config, id: ReplicaId, seat: Seat, told: watch::Sender<Living>) {
    let mut seat = Some(seat);
    let mut since: Option<Instant> = None;
    loop {
        sleep(LOOK).await;
        let looked = match &seat {
            Some(seat) => seat.living().await.map(Some),
            None => match Seat::take(&config, id).await {
                Ok(taken) => {
                    since = Some(Instant::now());
                    seat = taken;
                    Ok(None)
                }
                Err(error) => Err(error),
            },
        };
        match looked {
            Ok(Some(seen)) => {
                let is_patient = since.is_some_and(|it| it.elapsed() < GRACE);
                told.send_modify(|known| {
                    known.look += 1;
                    known.replicas = if is_patient { &seen | &known.replicas } else { seen };
                });
            }
            Ok(None) => {}
            Err(error) => {
                if let Some(seat) = seat.take() {
                    tracing::warn!(%error, replica = %id, "the other replicas take this one for dead for now");
                    seat.session.close().await;
                }
            }
        }
    }
}

/// A lock that is held.
struct Seat {
    session: Session,
    living: Statement,
}

impl Seat {
    /// Takes the lock; `None` where somebody has it: an earlier connection that the server has not given up yet.
    async fn take(config: &Config, id: ReplicaId) -> Result<Option<Self>, QueueStoreError> {
        patiently(async {
            let sql = QueueStoreError::postgres(DOING);
            let session = Session::connect(config, Role::Bare, DOING).await?;
            session.client.query(SILENCE, &[]).await.map_err(sql)?;
            let number = i32::try_from(id.0).unwrap_or(i32::MAX);
            let row = session.client.query_one(ENTER, &[&number]).await.map_err(sql)?;
            if !row.try_get::<_, bool>(0).map_err(sql)? {
                session.close().await;
                return Ok(None);
            }
            let living = session.client.prepare(LIVING).await.map_err(sql)?;
            Ok(Some(Self { session, living }))
        })
        .await
    }

    /// Who holds such a lock now. Asking is also what keeps the connection from being quiet.
    async fn living(&self) -> Result<BTreeSet<ReplicaId>, QueueStoreError> {
        patiently(async {
            let sql = QueueStoreError::postgres(DOING);
            let rows = self.session.client.query(&self.living, &[]).await.map_err(sql)?;
            let ids = rows
                .iter()
                .map(|row| row.try_get(0).map(|id: i64| ReplicaId(narrow(id))));
            ids.collect::<Result<_, _>>().map_err(sql)
        })
        .await
    }
}

async fn patiently<T>(work: impl Future<Output = Result<T, QueueStoreError>>) -> Result<T, QueueStoreError> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => Err(QueueStoreError::Lost {
            doing: DOING,
            source: DatabaseError::Silent(PATIENCE.as_secs()),
        }),
    }
}
