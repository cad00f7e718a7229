//! A random script, acted out on a store and on the model at once.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sandrun_core::pool::{ClientNumber, JobNumber, NodeNumber};
use sandrun_store::queue::{
    Answer, BLOB_TTL, BlobHash, Body, CHUNK, ClientRow, JobFilter, JobState, JobWord, LogPiece, LogStream,
    NewJob, NodeRow, OutputRef, QueueAddress, QueueReader, QueueStore, QueueStoreError, Writes, open_queue,
};
use sandrun_types::{Attempt, OutputRoot};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;

use super::model::{Model, log_byte};

const WORDS: [JobWord; 5] = [
    JobWord::Pending,
    JobWord::Assigned,
    JobWord::Running,
    JobWord::Completed,
    JobWord::Failed,
];
const NAMES: [&str; 4] = ["ann", "bob", "c\0c", "ünï"];
const MINUTE: u64 = 60_000;
/// How long ended jobs are kept here.
const TTL: u64 = 50 * MINUTE;

/// One step: which, and where its choices come from.
pub(crate) type Step = (u8, u64);
/// How many kinds of steps there are.
pub(crate) const KINDS: u8 = 20;

/// A stream of choices out of one number.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.next() % sides
    }

    fn small(&mut self, sides: u32) -> u32 {
        u32::try_from(self.roll(u64::from(sides))).unwrap()
    }

    fn index(&mut self, sides: usize) -> usize {
        usize::try_from(self.roll(sides as u64)).unwrap()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.roll(most + 1)).map(|_| self.byte()).collect()
    }

    fn maybe<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (!self.one_in(3)).then(|| value(self))
    }

    /// A job's number, mostly of one that is there.
    fn job(&mut self, model: &Model) -> JobNumber {
        JobNumber(self.roll(model.last().0 + 2))
    }
}

/// A few bodies, some of them larger than a chunk.
static BODIES: LazyLock<Vec<(BlobHash, Vec<u8>)>> = LazyLock::new(|| {
    let sizes = [0, CHUNK, CHUNK + 1, 2 * CHUNK + 77, 5, 6, 7, 800, 900];
    let bodies = sizes
        .into_iter()
        .map(|size| [3, 1, 4, 1, 5, 9, 2].repeat(size / 7 + 1)[..size].to_vec());
    bodies
        .map(|body| (BlobHash(Sha256::digest(&body).into()), body))
        .collect()
});

impl Dice {
    /// One of the bodies, mostly of the small ones.
    fn body(&mut self) -> &'static (BlobHash, Vec<u8>) {
        let first = if self.one_in(4) { 0 } else { 4 };
        &BODIES[first + self.index(BODIES.len() - first)]
    }
}

struct Store {
    store: Box<dyn QueueStore>,
    reader: QueueReader,
    seen: u64,
}

/// Several stores on one queue, and the model.
pub(crate) struct Stage<'a> {
    runtime: &'a Runtime,
    address: &'a QueueAddress,
    stores: Vec<Store>,
    model: Model,
    kept: BTreeMap<String, Vec<u8>>,
    now: u64,
}

impl<'a> Stage<'a> {
    /// Opens `replicas` stores at `address`.
    pub(crate) fn open(runtime: &'a Runtime, address: &'a QueueAddress, replicas: usize) -> Self {
        let mut stage = Self {
            runtime,
            address,
            stores: Vec::new(),
            model: Model::default(),
            kept: BTreeMap::new(),
            now: 1_700_000_000_000,
        };
        for _ in 0..replicas {
            stage.add();
        }
        stage
    }

    fn add(&mut self) {
        let (store, reader) = self.runtime.block_on(open_queue(self.address)).unwrap();
        self.stores.push(Store {
            store,
            reader,
            seen: 0,
        });
        self.reload(self.stores.len() - 1);
    }

    fn reload(&mut self, at: usize) {
        let Store { store, seen, .. } = &mut self.stores[at];
        assert_eq!(store.load().unwrap(), self.model.load(seen), "what is open");
    }

    /// Acts one step out, and compares.
    pub(crate) fn act(&mut self, (kind, choices): Step) {
        let mut dice = Dice(choices);
        let at = dice.index(self.stores.len());
        match kind % KINDS {
            0..=5 => self.batch(at, &mut dice),
            6 => self.failing_batch(at, &mut dice),
            7..=9 => self.put(at, &mut dice),
            10 => self.check_body(at, dice.body().0),
            11 => self.sweep_jobs(at),
            12 | 13 => self.sweep_blobs(at),
            14 | 15 => self.now += dice.roll(70 * MINUTE),
            16 => self.reload(at),
            17 => self.restart(at),
            18 => self.check_job(at, &mut dice),
            19 => self.check_lists(at, &mut dice),
            other => unreachable!("{other}"),
        }
    }

    /// Compares everything, now and after the sweeps of some hours.
    pub(crate) fn finish(mut self) {
        self.check_all();
        for wait in [TTL + 1, 1, BLOB_TTL + 1] {
            self.now += wait;
            self.sweep_jobs(0);
            self.sweep_blobs(0);
            self.check_all();
        }
    }

    fn check_all(&mut self) {
        for at in 0..self.stores.len() {
            for (hash, _) in BODIES.iter() {
                self.check_body(at, *hash);
            }
            for number in 0..=self.model.last().0 {
                self.check_one(at, JobNumber(number), 0);
            }
            let all = JobFilter {
                limit: 1000,
                ..JobFilter::default()
            };
            let listed = self.runtime.block_on(self.stores[at].reader.list(&all)).unwrap();
            assert_eq!(listed, self.model.list(&all));
            self.reload(at);
        }
    }

    fn restart(&mut self, at: usize) {
        // a file has one process at a time: the old one first
        drop(self.stores.remove(at));
        self.add();
    }

    fn batch(&mut self, at: usize, dice: &mut Dice) {
        let mut writes = if dice.one_in(6) {
            Writes::default()
        } else {
            self.writes(dice)
        };
        self.bring(at, dice, &mut writes);
        let Store { store, seen, .. } = &mut self.stores[at];
        let expected = self.model.foreign(seen);
        let mut calls = 0;
        let kept = &self.model.jobs;
        store
            .transact(&mut |mut foreign| {
                // of one that was swept before they looked replicas may hear or not
                foreign.jobs.retain(|job| kept.contains_key(&job.number));
                foreign.keys.retain(|key| kept.contains_key(&key.job));
                assert_eq!(foreign, expected, "what others have written");
                calls += 1;
                writes.clone()
            })
            .unwrap();
        assert_eq!(calls, 1);
        self.model.write(&writes, seen);
    }

    /// Lets some of the bodies that new jobs name come with them.
    fn bring(&self, at: usize, dice: &mut Dice, writes: &mut Writes) {
        let reader = &self.stores[at].reader;
        if writes.new_jobs.is_empty() || reader.takes_with_batch() == 0 {
            return;
        }
        // as for what is put
        self.runtime.block_on(reader.nodes()).unwrap();
        let named = |hash| writes.new_jobs.iter().any(|new| new.blobs.contains(hash));
        let short = |body: &[u8]| body.len() <= reader.takes_with_batch();
        for (hash, body) in BODIES.iter().filter(|(hash, body)| named(hash) && short(body)) {
            if dice.one_in(2) {
                writes.bodies.push(Body {
                    blob: *hash,
                    put: self.now,
                    data: Bytes::from_static(body),
                });
            }
        }
    }

    /// A batch that cannot be written, with others' rows before the bad one.
    fn failing_batch(&mut self, at: usize, dice: &mut Dice) {
        let mut writes = self.writes(dice);
        let stateless = dice.one_in(2) || self.model.jobs.is_empty();
        let number = if stateless {
            JobNumber(self.model.last().0 + 100)
        } else {
            *self.model.jobs.keys().next().unwrap()
        };
        writes.new_jobs.push(NewJob {
            number,
            client: ClientNumber(1),
            created: self.now,
            priority: 1,
            request: Vec::new(),
            blobs: Vec::new(),
            parents: Vec::new(),
            idempotency: None,
        });
        if !stateless {
            writes.jobs.retain(|state| state.number != number);
            writes.jobs.push(self.state(dice, number));
        }
        let error = self.stores[at]
            .store
            .transact(&mut |_| writes.clone())
            .unwrap_err();
        if stateless {
            assert!(
                matches!(error, QueueStoreError::Stateless(named) if named == number),
                "{error:?}"
            );
        } else {
            let is_refused = matches!(
                error,
                QueueStoreError::Refused { .. } | QueueStoreError::Repeated(_)
            );
            assert!(is_refused, "{error:?}");
        }
        self.reload(at);
        self.check_one(at, number, 0);
    }

    fn writes(&self, dice: &mut Dice) -> Writes {
        let (last_job, last_node, last_client) = self.model.last();
        let mut writes = Writes::default();
        let fresh_clients = if last_client == 0 { 1 } else { dice.small(2) };
        for number in (last_client + 1..).take(fresh_clients as usize) {
            let name = format!("{}{number}", dice.pick(&NAMES));
            writes.clients.push(ClientRow {
                number: ClientNumber(number),
                name,
            });
        }
        let clients = last_client + fresh_clients;
        let fresh_jobs = dice.index(4);
        for number in (last_job + 1..).take(fresh_jobs).map(JobNumber) {
            writes.new_jobs.push(self.new_job(dice, number, clients));
            writes.jobs.push(self.state(dice, number));
        }
        let mut touched: Vec<JobNumber> = (0..dice.roll(5)).map(|_| dice.job(&self.model)).collect();
        touched.sort_unstable();
        touched.dedup();
        touched.retain(|number| number.0 <= last_job);
        writes
            .jobs
            .extend(touched.into_iter().map(|number| self.state(dice, number)));
        for number in 1..=last_node + dice.small(2) {
            if number > last_node || dice.one_in(3) {
                writes.nodes.push(self.node(dice, number));
            }
        }
        for _ in 0..dice.roll(3) {
            writes.answers.push(self.answer(dice));
        }
        for _ in 0..dice.roll(4) {
            let piece = self.piece(dice);
            // what one batch sends twice is not a rule of ours but the order of its pieces
            if writes.logs.iter().all(|other| other.job != piece.job) {
                writes.logs.push(piece);
            }
        }
        writes
    }

    fn new_job(&self, dice: &mut Dice, number: JobNumber, clients: u32) -> NewJob {
        NewJob {
            number,
            client: ClientNumber(1 + dice.small(clients)),
            created: self.now,
            priority: dice.byte() % 10,
            request: dice.bytes(300),
            blobs: (0..dice.roll(5)).map(|_| dice.body().0).collect(),
            parents: (0..dice.roll(3)).map(|_| dice.job(&self.model)).collect(),
            idempotency: dice.maybe(|dice| dice.pick(&NAMES).to_owned()),
        }
    }

    fn state(&self, dice: &mut Dice, number: JobNumber) -> JobState {
        let word = dice.pick(&WORDS);
        let open = !matches!(word, JobWord::Completed | JobWord::Failed);
        JobState {
            number,
            open,
            word,
            reason: dice.maybe(|dice| format!("because {}", dice.pick(&NAMES))),
            node: dice.maybe(|dice| NodeNumber(dice.small(4))),
            attempt: dice.maybe(|dice| Attempt(1 + dice.small(4))),
            started: dice.maybe(|_| self.now),
            ended: (!open).then_some(self.now),
            snapshot: dice.bytes(100),
        }
    }

    fn node(&self, dice: &mut Dice, number: u32) -> NodeRow {
        NodeRow {
            number: NodeNumber(number),
            id: format!("node-{number}-{}", dice.pick(&NAMES)),
            endpoint: String::new(),
            announced: dice.bytes(50),
            heard: self.now,
            completed: dice.roll(1000),
            failed: dice.roll(1000),
            snapshot: dice.bytes(50),
        }
    }

    fn answer(&self, dice: &mut Dice) -> Answer {
        let outputs: Vec<OutputRef> = (0..dice.roll(5))
            .map(|at| {
                let (blob, content) = dice.body();
                OutputRef {
                    path: format!("out/{at}{}", dice.pick(&NAMES)),
                    size: content.len() as u64,
                    blob: *blob,
                }
            })
            .collect();
        Answer {
            output_root: dice
                .maybe(|dice| OutputRoot([dice.byte(); 32]))
                .filter(|_| !outputs.is_empty()),
            outputs,
            job: dice.job(&self.model),
            attempt: Attempt(1 + dice.small(3)),
            node: NodeNumber(dice.small(4)),
            exit_code: dice.maybe(|dice| i32::from(dice.byte()) - 128),
            stdout: dice.bytes(200),
            stderr: dice.bytes(20),
            receipt: dice.maybe(|dice| dice.bytes(64)),
            signature: dice.maybe(|dice| dice.bytes(64)),
            details: dice.bytes(20),
        }
    }

    /// A piece that goes on from the last one, overlaps it, or leaves a gap.
    fn piece(&self, dice: &mut Dice) -> LogPiece {
        let job = dice.job(&self.model);
        let key = (job, dice.one_in(2), 1 + dice.small(2));
        let end = self
            .model
            .logs
            .get(&key)
            .and_then(|known| known.last())
            .map_or(0, |last| last + 1);
        let from = match dice.roll(4) {
            0 => end + dice.roll(3),
            1 => end.saturating_sub(dice.roll(4)),
            _ => end,
        };
        let to = end.max(from) + dice.roll(40);
        LogPiece {
            job,
            attempt: Attempt(key.2),
            stream: if key.1 {
                LogStream::Stderr
            } else {
                LogStream::Stdout
            },
            from,
            bytes: (from..to).map(|at| log_byte(key, at)).collect(),
        }
    }

    fn put(&mut self, at: usize, dice: &mut Dice) {
        let reader = &self.stores[at].reader;
        // a batch that names a body before it is stored counts as not naming it: SQLite finds out when it reads
        self.runtime.block_on(reader.nodes()).unwrap();
        let (hash, content) = dice.body();
        let mut pieces: Vec<_> = content
            .chunks(1 + dice.index(3 * CHUNK))
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        if dice.one_in(4) {
            pieces.push(Err(std::io::Error::other("the sender is gone")));
            let put = self
                .runtime
                .block_on(reader.put_blob(stream::iter(pieces).boxed(), self.now));
            assert!(matches!(put, Err(QueueStoreError::Body(_))), "{put:?}");
            return;
        }
        let put = self
            .runtime
            .block_on(reader.put_blob(stream::iter(pieces).boxed(), self.now))
            .unwrap();
        assert_eq!(put, (*hash, content.len() as u64));
        self.model.put(*hash, content.clone(), self.now);
    }

    fn check_body(&self, at: usize, hash: BlobHash) {
        let reader = &self.stores[at].reader;
        let found = self.runtime.block_on(async {
            match reader.get_blob(hash).await.unwrap() {
                Some((size, body)) => Some((size, body.try_collect::<Vec<Bytes>>().await.unwrap().concat())),
                None => None,
            }
        });
        let expected = self
            .model
            .blobs
            .get(&hash)
            .map(|(body, _)| (body.len() as u64, body.clone()));
        assert!(found == expected, "body {hash}");
    }

    fn sweep_jobs(&mut self, at: usize) {
        let swept = self
            .runtime
            .block_on(self.stores[at].reader.sweep_jobs(self.now, TTL));
        assert_eq!(swept.unwrap(), self.model.sweep_jobs(self.now, TTL));
    }

    fn sweep_blobs(&mut self, at: usize) {
        let swept = self
            .runtime
            .block_on(self.stores[at].reader.sweep_blobs(self.now));
        assert_eq!(swept.unwrap(), self.model.sweep_blobs(self.now));
    }

    fn check_job(&mut self, at: usize, dice: &mut Dice) {
        let number = dice.job(&self.model);
        self.check_one(at, number, dice.roll(60));
        let numbers = [number, dice.job(&self.model), number];
        let mut expected: Vec<_> = numbers[..2]
            .iter()
            .filter_map(|number| self.model.job(*number))
            .map(|row| (row.new.number, row.new.request))
            .collect();
        expected.sort();
        expected.dedup();
        let Store { store, reader, .. } = &mut self.stores[at];
        assert_eq!(store.requests(&numbers).unwrap(), expected);
        // what the writer does not have at hand is there for readers
        let at_hand = store.requests_at_hand(&numbers).unwrap();
        let missing: Vec<_> = at_hand.iter().filter(|(_, request)| request.is_none()).collect();
        let missing: Vec<_> = missing.into_iter().map(|(number, _)| *number).collect();
        let mut both = self.runtime.block_on(reader.requests(&missing)).unwrap();
        both.extend(at_hand.into_iter().filter_map(|(number, it)| Some((number, it?))));
        both.sort();
        assert_eq!(both, expected);
    }

    fn check_one(&mut self, at: usize, number: JobNumber, from: u64) {
        let Store { store, reader, .. } = &mut self.stores[at];
        let expected = self.model.job(number);
        assert_eq!(self.runtime.block_on(reader.job(number)).unwrap(), expected);
        assert_eq!(store.job(number).unwrap(), expected.map(|row| row.state));
        let answers = self.model.answers(number);
        assert_eq!(self.runtime.block_on(reader.answers(number)).unwrap(), answers);
        assert_eq!(
            self.runtime.block_on(reader.answer(number)).unwrap(),
            answers.last().cloned()
        );
        for stream in [LogStream::Stdout, LogStream::Stderr] {
            let stderr = stream == LogStream::Stderr;
            let found = self
                .runtime
                .block_on(reader.log(number, stream, from, usize::MAX))
                .unwrap();
            let found = found.map(|piece| (piece.attempt.0, piece.from, piece.bytes));
            assert_eq!(
                found,
                self.model.log(number, stderr, from),
                "log of {number} from {from}"
            );
        }
    }

    fn check_lists(&mut self, at: usize, dice: &mut Dice) {
        let client = || -> String { format!("{}{}", NAMES[1], 1) };
        let filter = JobFilter {
            word: dice.maybe(|dice| dice.pick(&WORDS)),
            client: dice.maybe(|dice| match self.model.jobs.values().nth(dice.index(5)) {
                Some((row, _)) => row.client_name.clone(),
                None => client(),
            }),
            below: dice.maybe(|dice| dice.job(&self.model)),
            limit: dice.small(8),
        };
        let Store { store, reader, .. } = &mut self.stores[at];
        let listed = self.runtime.block_on(reader.list(&filter)).unwrap();
        assert_eq!(listed, self.model.list(&filter), "{filter:?}");
        let nodes = self.runtime.block_on(reader.nodes()).unwrap();
        assert_eq!(nodes, self.model.node_rows(&|_| true));
        let name = filter.client.unwrap_or_else(client);
        for key in NAMES {
            let found = store.by_idempotency(&name, key).unwrap();
            assert_eq!(found, self.model.by_key(&name, key), "{name} {key}");
        }
        let name = dice.pick(&NAMES);
        let fresh = dice.bytes(9);
        let kept = self.kept.entry(name.to_owned()).or_insert_with(|| fresh.clone());
        assert_eq!(&store.keep(name, &fresh).unwrap(), kept);
    }
}
