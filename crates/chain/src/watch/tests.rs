//! History and confirmations against a model: a random chain that grows and goes back.

use proptest::prelude::*;
use sandrun_core::market::MarketEvent;
use sandrun_types::{Address, Amount, B256, NodeIndex, UnixSeconds};

use super::history::History;
use super::{ChainUpdate, Confirmations, Cursor};
use crate::position::{BlockHash, BlockRef, Head, LogPosition, Logged, TxHash};

fn head(number: u64, branch: u64) -> Head {
    let hash = BlockHash(B256::left_padding_from(&(number << 32 | branch).to_be_bytes()));
    Head {
        block: BlockRef { number, hash },
        timestamp: UnixSeconds(number),
        base_fee: None,
    }
}

fn event(head: &Head, log_index: u64) -> Logged {
    let event = MarketEvent::StakeWithdrawn {
        node: NodeIndex(1),
        to: Address::ZERO,
        amount: Amount::ZERO,
    };
    let at = LogPosition {
        block: head.block,
        log_index,
        tx: TxHash(B256::ZERO),
        timestamp: head.timestamp,
    };
    Logged { event, at }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// A block with so many events.
    Grow(u64),
    /// So many blocks go; the new tip is said, or not.
    Back(usize, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let grow = (0u64..4).prop_map(Step::Grow);
    let back = (1usize..6, any::<bool>()).prop_map(|(blocks, said)| Step::Back(blocks, said));
    proptest::collection::vec(prop_oneof![4 => grow, 1 => back], 1..120)
}

/// A consumer that believes what it is told, and fails when that makes no sense.
fn consume(events: &mut Vec<Logged>, updates: Vec<ChainUpdate>) {
    for update in updates {
        match update {
            ChainUpdate::Applied(logged) => events.push(logged),
            ChainUpdate::Undone(logged) => assert_eq!(events.pop(), Some(logged), "the last one goes first"),
            ChainUpdate::Head(head) => {
                assert!(
                    events.iter().all(|it| it.at.block.number <= head.block.number),
                    "head {head:?}"
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn a_consumer_has_what_stands_deep_enough_and_nothing_else(steps in steps(), depth in 0u64..5) {
        let mut history = History::restore(&Cursor::from_block(1), [], 1_000);
        let mut confirmations = Confirmations::new(depth);
        let (mut chain, mut seen) = (Vec::<(Head, Vec<Logged>)>::new(), Vec::new());
        for (branch, step) in (0u64..).zip(steps) {
            let updates: Vec<ChainUpdate> = match step {
                Step::Grow(count) => {
                    let head = head(history.next_block(), branch);
                    let events: Vec<Logged> = (0..count).map(|index| event(&head, index)).collect();
                    chain.push((head, events.clone()));
                    history.push(head, events).collect()
                }
                Step::Back(blocks, said) => {
                    let gone = blocks.min(chain.len());
                    chain.truncate(chain.len() - gone);
                    let mut updates: Vec<ChainUpdate> = (0..gone).flat_map(|_| history.pop().collect::<Vec<_>>()).collect();
                    updates.extend(chain.last().filter(|_| said).map(|(head, _)| ChainUpdate::Head(*head)));
                    updates
                }
            };
            for update in updates {
                consume(&mut seen, confirmations.push(update));
            }
            let standing: Vec<Logged> = chain.iter().flat_map(|(_, events)| events.clone()).collect();
            prop_assert!(standing.starts_with(&seen), "{seen:?} of {standing:?}");
            if let (Step::Grow(_), Some((tip, _))) = (step, chain.last()) {
                let deep = standing.iter().filter(|it| it.at.block.number + depth <= tip.block.number).count();
                prop_assert!(seen.len() >= deep, "{} seen, {deep} are deep enough", seen.len());
            }
        }
    }

    #[test]
    fn a_restart_remembers_as_much_as_was_kept(counts in proptest::collection::vec(0u64..3, 1..30)) {
        let mut cursor = Cursor::from_block(1);
        let mut known = Vec::new();
        for (number, count) in (1u64..).zip(&counts) {
            let head = head(number, 0);
            cursor.advance(&head);
            known.extend((0..*count).map(|index| event(&head, index)));
        }
        let mut history = History::restore(&cursor, known.iter().rev().cloned(), 64);
        prop_assert_eq!(history.oldest(), None, "everything since the start is known");
        let mut undone = Vec::new();
        while history.tip().is_some() {
            undone.extend(history.pop());
        }
        let expected: Vec<ChainUpdate> = known.into_iter().rev().map(ChainUpdate::Undone).collect();
        prop_assert_eq!(undone, expected);
        prop_assert_eq!(history.next_block(), 1);
    }
}

#[test]
fn what_is_older_than_the_depth_is_forgotten() {
    let mut history = History::restore(&Cursor::from_block(1), [], 3);
    for number in 1..=10 {
        assert_eq!(history.push(head(number, 0), Vec::new()).count(), 1);
    }
    assert_eq!(history.oldest(), Some(7));
}
