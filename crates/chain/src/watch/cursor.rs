//! How far a consumer has come. Owns the blocks by which a restart finds out whether it stands on a branch that is gone.

use serde::{Deserialize, Serialize};

use crate::position::{BlockRef, Head};

use super::REORG_DEPTH;

/// How far a consumer has come, with the blocks that lead there; small enough to be written with every block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// First block that matters.
    start: u64,
    /// Delivered heads, ascending, the newest last.
    blocks: Vec<BlockRef>,
}

impl Cursor {
    /// Nothing delivered yet, block `start` is the first that matters.
    pub const fn from_block(start: u64) -> Self {
        Self {
            start,
            blocks: Vec::new(),
        }
    }

    /// The last block that was delivered whole.
    pub fn tip(&self) -> Option<BlockRef> {
        self.blocks.last().copied()
    }

    /// The first block to be delivered.
    pub fn next_block(&self) -> u64 {
        self.tip().map_or(self.start, |tip| tip.number.saturating_add(1))
    }

    /// Height from which on the consumer's events are needed again after a restart.
    pub fn oldest(&self) -> u64 {
        self.blocks.first().map_or(self.start, |block| block.number)
    }

    /// Moves on to a head that was delivered, or back to it.
    pub fn advance(&mut self, head: &Head) {
        let block = head.block;
        self.blocks.retain(|it| it.number < block.number);
        self.blocks.push(block);
        let oldest = block.number.saturating_sub(REORG_DEPTH);
        let outdated = self.blocks.partition_point(|it| it.number < oldest);
        self.blocks.drain(..outdated);
    }

    pub(super) const fn start(&self) -> u64 {
        self.start
    }

    pub(super) fn blocks(&self) -> &[BlockRef] {
        &self.blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::BlockHash;
    use proptest::prelude::*;
    use sandrun_types::{B256, UnixSeconds};

    fn head(number: u64, branch: u8) -> Head {
        let block = BlockRef {
            number,
            hash: BlockHash(B256::repeat_byte(branch)),
        };
        Head {
            block,
            timestamp: UnixSeconds(number),
            base_fee: None,
        }
    }

    #[test]
    fn goes_back_with_a_lower_head() {
        let mut cursor = Cursor::from_block(3);
        assert_eq!(cursor.next_block(), 3);
        for number in 3..=8 {
            cursor.advance(&head(number, 1));
        }
        cursor.advance(&head(5, 2));
        assert_eq!(cursor.tip(), Some(head(5, 2).block));
        assert_eq!(cursor.next_block(), 6);
    }

    proptest! {
        #[test]
        fn stays_small_and_ascending(numbers in proptest::collection::vec(0u64..500, 1..300)) {
            let mut cursor = Cursor::from_block(0);
            for number in numbers {
                cursor.advance(&head(number, 1));
                let blocks = cursor.blocks();
                prop_assert!(blocks.windows(2).all(|pair| pair[0].number < pair[1].number));
                prop_assert!(blocks.len() as u64 <= REORG_DEPTH + 1);
                prop_assert_eq!(cursor.tip().map(|it| it.number), Some(number));
            }
            let text = serde_json::to_string(&cursor).unwrap();
            prop_assert_eq!(serde_json::from_str::<Cursor>(&text).unwrap(), cursor);
        }
    }
}
