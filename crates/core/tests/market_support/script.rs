//! Behaviours of seats, and the player that turns them into calls and writes down what it did.

use sandrun_core::market::escrow::Refusal;
use sandrun_core::market::{Phase, Round};

use super::{Code, Ending, HONEST, LIE_A, LIE_B, LIMIT, START, UNAVAILABLE, WALL, World};

/// What a seat does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Behaviour {
    /// Takes the seat, nothing else.
    Absent,
    /// Commits, never reveals.
    Silent,
    /// Reveals after its window, if it still can.
    Late(Code),
    /// Reveals in its window.
    Timely(Code),
}

impl Behaviour {
    pub(crate) const ANSWERS: [Code; 5] = [HONEST, LIE_A, LIE_B, UNAVAILABLE, LIMIT];

    /// Every behaviour of a seat of the first round.
    pub(crate) fn first() -> Vec<Self> {
        let late = Self::ANSWERS.map(Self::Late);
        let timely = Self::ANSWERS.map(Self::Timely);
        [Self::Absent, Self::Silent]
            .into_iter()
            .chain(late)
            .chain(timely)
            .collect()
    }

    /// Every behaviour of a seat of the extra round: nothing is late there, all is closed then.
    pub(crate) fn extra() -> Vec<Self> {
        let timely = Self::ANSWERS.map(Self::Timely);
        [Self::Absent, Self::Silent].into_iter().chain(timely).collect()
    }

    pub(crate) fn committed(self) -> Option<Code> {
        match self {
            Self::Absent => None,
            Self::Silent => Some(HONEST),
            Self::Late(code) | Self::Timely(code) => Some(code),
        }
    }
}

/// All multisets of `size` of `items`, in order.
pub(crate) fn multisets<T: Copy>(items: &[T], size: usize) -> Vec<Vec<T>> {
    if size == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (index, item) in items.iter().enumerate() {
        for mut rest in multisets(&items[index..], size - 1) {
            rest.insert(0, *item);
            all.push(rest);
        }
    }
    all
}

/// One line of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// Seconds since the posting.
    pub(crate) at: u64,
    pub(crate) does: Does,
    pub(crate) seat: usize,
    pub(crate) answer: Code,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    Claim,
    Commit,
    Reveal,
    Poke,
}

/// Plays behaviours on a world until the job is closed, and writes down what was done.
pub(crate) struct Player {
    pub(crate) world: World,
    pub(crate) steps: Vec<Step>,
    /// Seats reveal in descending order.
    pub(crate) backwards: bool,
}

impl Player {
    pub(crate) fn new(world: World) -> Self {
        Self {
            world,
            steps: Vec::new(),
            backwards: false,
        }
    }

    pub(crate) fn run(&mut self, first: &[Behaviour], extra: &[Behaviour]) -> Ending {
        let all: Vec<Behaviour> = first.iter().chain(extra).copied().collect();
        self.fill(0..first.len());
        self.commits(&all);
        self.reveals(&all);
        if self.world.facts.round == Round::Extra && self.world.phase() == Phase::Seats {
            let late: Vec<usize> = (0..first.len())
                .filter(|seat| matches!(all[*seat], Behaviour::Late(_)))
                .collect();
            self.late(&all, &late);
            self.fill(first.len()..all.len());
            self.commits(&all);
            self.reveals(&all);
        }
        self.pass_while(|_| true);
        self.world.ending()
    }

    pub(crate) fn act(&mut self, does: Does, seat: usize, answer: Code) -> Result<(), Refusal> {
        self.world.now += 1;
        let result = match does {
            Does::Claim => self.world.claim(seat),
            Does::Commit => self.world.commit(seat, answer),
            Does::Reveal => self.world.reveal(seat, answer),
            Does::Poke => self.world.poke(),
        };
        let at = self.world.now - START;
        result.map(|_| {
            self.steps.push(Step {
                at,
                does,
                seat,
                answer,
            })
        })
    }

    fn fill(&mut self, seats: std::ops::Range<usize>) {
        for seat in seats {
            self.act(Does::Claim, seat, Code(0)).expect("a free seat");
        }
        self.pass_while(|phase| phase == Phase::Seats);
    }

    /// Lets windows pass, one poke after each, while the job is in such a phase of its present round.
    pub(crate) fn pass_while(&mut self, wanted: impl Fn(Phase) -> bool) {
        let round = self.world.facts.round;
        while self.world.phase() != Phase::Closed
            && wanted(self.world.phase())
            && self.world.facts.round == round
        {
            self.world.now = self.world.now.max(self.world.facts.deadline.0);
            self.act(Does::Poke, 0, Code(0)).expect("a window is over");
        }
    }

    fn commits(&mut self, all: &[Behaviour]) {
        if self.world.phase() != Phase::Run {
            return;
        }
        let round = self.world.facts.round;
        let mine: Vec<(usize, Code)> = (0..self.world.facts.seats.len())
            .filter(|seat| self.world.facts.seats[*seat].round == round)
            .filter_map(|seat| all[seat].committed().map(|code| (seat, code)))
            .collect();
        // `limit` last, when it is late enough
        for (seat, code) in mine.iter().filter(|(_, code)| *code != LIMIT) {
            self.act(Does::Commit, *seat, *code).expect("a commit in time");
        }
        let windows = self.world.escrow.parameters().windows;
        for (seat, code) in mine.iter().filter(|(_, code)| *code == LIMIT) {
            let start = self.world.facts.deadline.0 - windows.run(WALL);
            self.world.now = self.world.now.max(start + 2 * u64::from(WALL));
            self.act(Does::Commit, *seat, *code).expect("a commit of limit");
        }
        self.pass_while(|phase| phase == Phase::Run);
    }

    fn reveals(&mut self, all: &[Behaviour]) {
        if self.world.phase() != Phase::Reveal {
            return;
        }
        let mut owing = self.world.facts.progress().owing_reveal();
        if self.backwards {
            owing.reverse();
        }
        for seat in owing {
            if let Behaviour::Timely(code) = all[seat] {
                self.act(Does::Reveal, seat, code).expect("a reveal in time");
            }
        }
        self.pass_while(|phase| phase == Phase::Reveal);
    }

    fn late(&mut self, all: &[Behaviour], seats: &[usize]) {
        for seat in seats {
            if let Behaviour::Late(code) = all[*seat] {
                match self.act(Does::Reveal, *seat, code) {
                    // both rounds reveal together: its window is still to come, and it will be late for that too
                    Err(Refusal::WrongPhase { .. }) => {
                        assert!(self.world.facts.progress().reveals_together())
                    }
                    other => other.expect("a late reveal"),
                }
            }
        }
    }
}
