//! The rows of policy: all that differs between the four trust models.

/// One trust model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Its name, for logs and metrics.
    pub name: &'static str,
    /// Who may work.
    pub admission: Admission,
    /// How a job finds its nodes.
    pub assignment: Assignment,
    /// Why an answer is believed.
    pub verification: Verification,
    /// Who pays.
    pub settlement: Settlement,
    /// Where events come from.
    pub events: EventSource,
    /// Whether an attempt that is lost is made again; otherwise its node counts as silent.
    pub retries: bool,
    /// Places that are opened once when the answers do not agree.
    pub extra_places: u8,
}

/// Who may work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Admission {
    /// Anyone with stake.
    Staked,
    /// Those on a list of keys.
    Allowlist,
    /// Anyone who registers.
    Registered,
    /// Any peer on the network.
    Peer,
}

/// How a job finds its nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Assignment {
    /// A node names the job whose lottery it has won.
    Tickets,
    /// A node asks for work and gets the most urgent job that it can do.
    Claimed,
    /// A job goes to the node with the fewest active ones that can do it.
    Pushed(TieBreak),
}

/// Which of several equally busy nodes gets a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TieBreak {
    /// The one registered first.
    Oldest,
    /// The one with the highest hash of job and node (rendezvous hashing, Thaler and Ravishankar 1998): all peers
    /// come to the same choice without asking each other.
    Rendezvous,
}

/// Why an answer is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verification {
    /// q of n equal digests, committed before any is revealed.
    CommitReveal,
    /// The worker's signature.
    Signature,
    /// Nothing, or k of n equal digests where the job asks for it.
    Replicas,
}

/// Who pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Settlement {
    /// The escrow contract.
    Escrow,
    /// Nobody.
    None,
}

/// Where events come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventSource {
    /// Logs of the escrow.
    ChainLogs,
    /// Requests to a service.
    Http,
    /// Datagrams and requests among peers.
    UdpAndHttp,
}

impl Policy {
    /// The market: strangers with stake, seats by lottery, two of three, paid by an escrow.
    pub const MARKET: Self = Self {
        name: "market",
        admission: Admission::Staked,
        assignment: Assignment::Tickets,
        verification: Verification::CommitReveal,
        settlement: Settlement::Escrow,
        events: EventSource::ChainLogs,
        retries: false,
        extra_places: 2,
    };
    /// The trusted pool: a list of workers, jobs are pushed, signatures are believed.
    pub const TRUSTED: Self = Self {
        name: "trusted",
        admission: Admission::Allowlist,
        assignment: Assignment::Pushed(TieBreak::Oldest),
        verification: Verification::Signature,
        settlement: Settlement::None,
        events: EventSource::Http,
        retries: true,
        extra_places: 0,
    };
    /// The broker: whoever registers asks for work.
    pub const BROKER: Self = Self {
        name: "broker",
        admission: Admission::Registered,
        assignment: Assignment::Claimed,
        verification: Verification::Replicas,
        settlement: Settlement::None,
        events: EventSource::Http,
        retries: true,
        extra_places: 2,
    };
    /// The mesh: peers give jobs to each other.
    pub const MESH: Self = Self {
        name: "mesh",
        admission: Admission::Peer,
        assignment: Assignment::Pushed(TieBreak::Rendezvous),
        verification: Verification::Replicas,
        settlement: Settlement::None,
        events: EventSource::UdpAndHttp,
        retries: true,
        extra_places: 2,
    };
    /// All four.
    pub const ALL: [Self; 4] = [Self::MARKET, Self::TRUSTED, Self::BROKER, Self::MESH];
}
