//! Random histories with reorganisations: what was applied and undone leaves nothing.

use client_sdk::JobsQuery;
use proptest::prelude::*;
use sandrun_chain::{BlockHash, BlockRef, Head, LogPosition, TxHash};
use sandrun_core::market::MarketEvent;
use sandrun_types::{
    Amount, Answer, B256, ClassId, ContentDigest, ManifestDigest, Order, Redundancy, ResultDigest, SeatIndex,
    Token, U256,
};

use super::*;

const ESCROW: Address = Address::repeat_byte(9);
const WINDOWS: Windows = Windows {
    seat: 60,
    run_multiple: 3,
    run_slack: 30,
    reveal: 60,
};
/// Jobs and nodes of a history.
const SUBJECTS: u8 = 3;

/// A block of a branch.
#[derive(Debug, Clone)]
struct Block {
    head: Head,
    events: Vec<Logged>,
}

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    /// A block with an event for each pair of a subject and a kind.
    Block(Vec<(u8, u8)>),
    /// The newest blocks go; in one batch with the block that replaces them, or before it.
    Reorganise {
        depth: usize,
        instead: Vec<(u8, u8)>,
        at_once: bool,
    },
    /// The newest blocks go and come back as they were.
    ThereAndBack { depth: usize },
    /// A block comes and is replaced before anybody has taken it in.
    Flicker {
        events: Vec<(u8, u8)>,
        instead: Vec<(u8, u8)>,
    },
    /// The process ends and starts again.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let events = || prop::collection::vec((0..SUBJECTS, any::<u8>()), 0..6);
    let reorganise = (1..6usize, events(), any::<bool>());
    let step = prop_oneof![
        6 => events().prop_map(Step::Block),
        2 => reorganise.prop_map(|(depth, instead, at_once)| Step::Reorganise { depth, instead, at_once }),
        1 => (1..4usize).prop_map(|depth| Step::ThereAndBack { depth }),
        1 => (events(), events()).prop_map(|(events, instead)| Step::Flicker { events, instead }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..24)
}

fn order(job: u8) -> Order {
    Order {
        client: Address::repeat_byte(job + 1),
        payer: Address::repeat_byte(job + 1),
        nonce: U256::ZERO,
        bundle: ContentDigest([2; 32]),
        manifest: ManifestDigest([3; 32]),
        class: ClassId([0; 32]),
        requirements: U256::ZERO,
        token: Token::Native,
        price: Amount::from_gwei(30),
        redundancy: Redundancy::Three,
        bond: Amount::from_gwei(150),
        wall_limit: 60,
        min_reputation: 0,
        client_key: B256::ZERO,
    }
}

/// A job's next event on a branch where `before` have happened to it: a posting first, seats in order.
fn job_event(number: u8, kind: u8, before: &[&MarketEvent]) -> MarketEvent {
    let job = JobId([number; 32]);
    let deadline = UnixSeconds(1_000);
    if before.is_empty() {
        let order = Box::new(order(number));
        return MarketEvent::JobPosted {
            job,
            client: order.client,
            order,
            deadline,
            units: 3,
        };
    }
    let claims = before
        .iter()
        .filter(|it| matches!(it, MarketEvent::SeatClaimed { .. }))
        .count();
    let taken = u8::try_from(claims).unwrap();
    let node = NodeIndex(kind.into());
    let seat = SeatIndex(kind.checked_rem(taken).unwrap_or(0));
    let amount = Amount::from_gwei(u64::from(kind));
    match kind % 7 {
        1 if taken > 0 => MarketEvent::Committed {
            job,
            node,
            seat,
            deadline,
        },
        2 if taken > 0 => {
            let answer = Answer::Digest(ResultDigest([kind; 32]));
            MarketEvent::Revealed {
                job,
                node,
                seat,
                answer,
            }
        }
        3 => MarketEvent::PhaseChanged {
            job,
            phase: Phase::Closed,
            deadline: UnixSeconds(0),
        },
        4 => MarketEvent::Refunded {
            job,
            payer: Address::ZERO,
            amount,
        },
        5 => MarketEvent::Burnt { job, amount },
        6 => MarketEvent::PhaseChanged {
            job,
            phase: Phase::Run,
            deadline,
        },
        _ => MarketEvent::SeatClaimed {
            job,
            node,
            seat: SeatIndex(taken),
            deadline,
        },
    }
}

fn node_event(number: u8, kind: u8) -> MarketEvent {
    let (node, amount) = (NodeIndex(number.into()), Amount::from_gwei(u64::from(kind)));
    let account = Address::repeat_byte(kind);
    match kind % 6 {
        0 => MarketEvent::NodeRegistered {
            node,
            account,
            worker: account,
            payout: account,
        },
        1 => MarketEvent::StakeAdded {
            node,
            amount,
            stake: amount,
        },
        2 => MarketEvent::OptedIn {
            node,
            escrow: ESCROW,
            cap: amount,
            classes: vec![ClassId([kind; 32])],
        },
        3 => MarketEvent::Seized {
            node,
            escrow: ESCROW,
            burnt: amount,
            tip: Amount::ZERO,
        },
        4 => MarketEvent::PayoutChanged {
            node,
            payout: account,
        },
        _ => MarketEvent::NodeWithdrawn {
            node,
            token: Token::Native,
            to: account,
            amount,
        },
    }
}

/// The next block of a branch; `salt` tells it from others of this height.
fn block(branch: &[Block], wanted: &[(u8, u8)], salt: u64) -> Block {
    let number = branch.len() as u64 + 1;
    let hash = BlockHash(U256::from(number * 1_000 + salt).into());
    let at = BlockRef { number, hash };
    let timestamp = UnixSeconds(1_000 + number);
    let mut events: Vec<Logged> = Vec::new();
    for (log_index, (subject, kind)) in wanted.iter().enumerate() {
        let event = if kind % 3 == 0 {
            node_event(*subject, kind / 3)
        } else {
            let earlier = branch
                .iter()
                .flat_map(|block| &block.events)
                .chain(&events)
                .map(|it| &it.event);
            let job = Some(JobId([*subject; 32]));
            job_event(
                *subject,
                kind / 3,
                &earlier.filter(|it| it.job() == job).collect::<Vec<_>>(),
            )
        };
        // two events share a transaction
        let tx = TxHash(U256::from(number * 1_000 + salt + (log_index as u64 / 2) * 100_000).into());
        let at = LogPosition {
            block: at,
            log_index: log_index as u64,
            tx,
            timestamp,
        };
        events.push(Logged { event, at });
    }
    let head = Head {
        block: at,
        timestamp,
        base_fee: None,
    };
    Block { head, events }
}

/// A book and what delivers to it.
struct Reader {
    folder: tempfile::TempDir,
    book: Option<Book>,
    cursor: Cursor,
}

impl Reader {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (book, cursor) = Self::open(folder.path());
        assert!(cursor.is_none());
        Self {
            folder,
            book: Some(book),
            cursor: Cursor::from_block(1),
        }
    }

    fn open(folder: &Path) -> (Book, Option<Cursor>) {
        Book::open(&folder.join("index.db"), "market", ESCROW, WINDOWS).unwrap()
    }

    fn book(&mut self) -> &mut Book {
        self.book.as_mut().unwrap()
    }

    fn deliver(&mut self, updates: &[ChainUpdate], head: &Head) {
        self.cursor.advance(head);
        let cursor = self.cursor.clone();
        self.book().take_in(updates, &cursor).unwrap();
    }

    fn restart(&mut self) {
        let had_read = self.cursor.tip().is_some();
        self.book = None;
        let (book, cursor) = Self::open(self.folder.path());
        self.book = Some(book);
        assert_eq!(cursor, had_read.then(|| self.cursor.clone()));
    }

    /// Everything that a book holds, on disk and in memory.
    fn content(&mut self) -> Content {
        let book = self.book();
        let all = JobsQuery {
            limit: Some(1_000),
            ..JobsQuery::default()
        };
        Content {
            events: book.events_from(0).unwrap(),
            jobs: book.jobs(&all).unwrap().jobs,
            open: book.open.values().cloned().collect(),
            nodes: book.nodes.clone(),
        }
    }
}

/// What a book holds.
#[derive(Debug, PartialEq)]
struct Content {
    events: Vec<Logged>,
    jobs: Vec<JobEntry>,
    open: Vec<JobEntry>,
    nodes: BTreeMap<NodeIndex, NodeEntry>,
}

fn applied(block: &Block) -> impl Iterator<Item = ChainUpdate> {
    block.events.iter().cloned().map(ChainUpdate::Applied)
}

/// The last event first.
fn undone(blocks: &[Block]) -> Vec<ChainUpdate> {
    blocks
        .iter()
        .rev()
        .flat_map(|it| it.events.iter().rev())
        .cloned()
        .map(ChainUpdate::Undone)
        .collect()
}

/// Plays the steps; the branch that stands at the end.
fn play(reader: &mut Reader, steps: &[Step]) -> Vec<Block> {
    let mut branch: Vec<Block> = Vec::new();
    for (salt, step) in steps.iter().enumerate() {
        let salt = salt as u64 + 1;
        match step {
            Step::Block(events) => {
                let next = block(&branch, events, salt);
                reader.deliver(&applied(&next).collect::<Vec<_>>(), &next.head);
                branch.push(next);
            }
            Step::Reorganise {
                depth,
                instead,
                at_once,
            } => {
                let rest = branch.len().saturating_sub(*depth);
                let mut updates = undone(&branch[rest..]);
                branch.truncate(rest);
                if !at_once && let Some(last) = branch.last() {
                    reader.deliver(&updates, &last.head);
                    updates.clear();
                }
                let next = block(&branch, instead, salt);
                updates.extend(applied(&next));
                reader.deliver(&updates, &next.head);
                branch.push(next);
            }
            Step::ThereAndBack { depth } => {
                let Some(last) = branch.last() else { continue };
                let gone = &branch[branch.len().saturating_sub(*depth)..];
                let back = gone.iter().flat_map(applied);
                reader.deliver(
                    &undone(gone).into_iter().chain(back).collect::<Vec<_>>(),
                    &last.head,
                );
            }
            Step::Flicker { events, instead } => {
                let (gone, next) = (block(&branch, events, salt), block(&branch, instead, salt + 500));
                let updates = applied(&gone)
                    .chain(undone(std::slice::from_ref(&gone)))
                    .chain(applied(&next));
                reader.deliver(&updates.collect::<Vec<_>>(), &next.head);
                branch.push(next);
            }
            Step::Restart => reader.restart(),
        }
    }
    branch
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_was_undone_leaves_nothing(steps in steps()) {
        let mut reader = Reader::new();
        let branch = play(&mut reader, &steps);
        let mut straight = Reader::new();
        for block in &branch {
            straight.deliver(&applied(block).collect::<Vec<_>>(), &block.head);
        }
        let found = reader.content();
        prop_assert_eq!(&found, &straight.content());
        // and the memory is what a restart reads from the disk
        reader.restart();
        prop_assert_eq!(found, reader.content());
    }
}

fn at(number: u64, log_index: u64, event: MarketEvent) -> Logged {
    let hash = BlockHash(U256::from(number).into());
    let block = BlockRef { number, hash };
    let tx = TxHash(U256::from(number).into());
    Logged {
        event,
        at: LogPosition {
            block,
            log_index,
            tx,
            timestamp: UnixSeconds(number),
        },
    }
}

fn head(number: u64) -> Head {
    let block = BlockRef {
        number,
        hash: BlockHash(U256::from(number).into()),
    };
    Head {
        block,
        timestamp: UnixSeconds(number),
        base_fee: None,
    }
}

#[test]
fn a_job_is_taken_further_folded_anew_and_gone() {
    let mut reader = Reader::new();
    let job = JobId([1; 32]);
    let posted = at(5, 0, job_event(1, 0, &[]));
    let claimed = at(6, 0, job_event(1, 0, &[&posted.event]));
    reader.deliver(&[ChainUpdate::Applied(posted.clone())], &head(5));
    reader.deliver(&[ChainUpdate::Applied(claimed.clone())], &head(6));
    let entry = reader.book().job(job).unwrap().unwrap();
    assert_eq!(
        (entry.facts.seats.len(), entry.posted, entry.last),
        (1, posted.at, claimed.at)
    );
    assert_eq!(entry.transactions, [posted.at.tx, claimed.at.tx]);
    assert_eq!(
        reader.book().counts().unwrap().0,
        PhaseCounts {
            seats: 1,
            ..PhaseCounts::default()
        }
    );

    reader.deliver(&[ChainUpdate::Undone(claimed)], &head(5));
    let entry = reader.book().job(job).unwrap().unwrap();
    assert_eq!((entry.facts.seats.len(), entry.last), (0, posted.at));
    reader.deliver(&[ChainUpdate::Undone(posted)], &head(4));
    assert!(reader.book().job(job).unwrap().is_none());
    assert_eq!(reader.book().counts().unwrap().0, PhaseCounts::default());
}

#[test]
fn a_job_without_its_posting_is_refused_and_nothing_is_written() {
    let mut reader = Reader::new();
    let posted = job_event(1, 0, &[]);
    let claimed = at(6, 0, job_event(1, 0, &[&posted]));
    let mut cursor = Cursor::from_block(1);
    cursor.advance(&head(6));
    let taken = reader.book().take_in(&[ChainUpdate::Applied(claimed)], &cursor);
    assert!(matches!(taken, Err(ManagerError::Facts(_))), "{taken:?}");
    assert!(reader.book().events_from(0).unwrap().is_empty());
    reader.restart();
}

#[test]
fn what_is_due_is_found_until_it_is_done() {
    let mut reader = Reader::new();
    let posted = at(5, 0, job_event(1, 0, &[]));
    reader.deliver(&[ChainUpdate::Applied(posted)], &head(5));
    assert!(reader.book().due(UnixSeconds(1_000)).is_empty());
    // nobody came: it expires, then the payer gets everything back
    let due = reader.book().due(UnixSeconds(1_001));
    assert!(matches!(due.as_slice(), [(_, Due::Poke(_))]), "{due:?}");
    let job = JobId([1; 32]);
    let closed = at(
        7,
        0,
        MarketEvent::PhaseChanged {
            job,
            phase: Phase::Closed,
            deadline: UnixSeconds(0),
        },
    );
    reader.deliver(&[ChainUpdate::Applied(closed)], &head(7));
    let due = reader.book().due(UnixSeconds(1_001));
    assert!(matches!(due.as_slice(), [(_, Due::Refund)]), "{due:?}");
    let amount = order(1).locked_sum().unwrap();
    let refunded = at(
        8,
        0,
        MarketEvent::Refunded {
            job,
            payer: Address::ZERO,
            amount,
        },
    );
    reader.deliver(&[ChainUpdate::Applied(refunded)], &head(8));
    assert!(reader.book().due(UnixSeconds(1_001)).is_empty());
}
