//! Random histories: crashes, failures, reorganisations, lost time. Whatever happens, one answer; and when it all
//! happens within the windows, the seat is paid.

use proptest::prelude::*;

use super::chain::{Fate, World};
use super::*;

#[derive(Debug, Clone, Copy)]
enum Move {
    Step(Fate),
    Reorg(u64),
    Pass(u64),
}

fn moves(longest_pass: u64) -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        8 => Just(Move::Step(Fate::Done)),
        2 => Just(Move::Step(Fate::Fails)),
        2 => Just(Move::Step(Fate::CrashBefore)),
        2 => Just(Move::Step(Fate::CrashAfter)),
        2 => (1u64..5).prop_map(Move::Reorg),
        1 => (0..=longest_pass).prop_map(Move::Pass),
    ];
    proptest::collection::vec(one, 0..60)
}

fn play(world: &mut World, moves: &[Move]) {
    for step in moves {
        match *step {
            Move::Step(fate) => world.step(fate),
            Move::Reorg(depth) => {
                world.rig.undo(depth.min(world.rig.block - 10));
                world.rig.mine([]);
            }
            Move::Pass(seconds) => {
                let now = world.rig.now + seconds;
                world.rig.tick(now);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn there_is_never_a_second_answer(moves in moves(120), confirmations in 0u64..4) {
        let mut world = World::new(confirmations);
        play(&mut world, &moves);
        world.settle();
        prop_assert!(world.sent.len() <= 1, "sent {:?}", world.sent);
    }

    #[test]
    fn within_its_windows_a_seat_is_always_saved(moves in moves(0), confirmations in 0u64..4) {
        let mut world = World::new(confirmations);
        // at most one second a move: the seat window and the run window outlast them
        play(&mut world, &moves[..moves.len().min(25)]);
        world.settle();
        prop_assert_eq!(world.rig.state(), StateName::Finished, "{:?}", world.rig.seat);
        prop_assert_eq!(world.sent.len(), 1);
    }
}
