//! The table of docs/protocol.md, "What becomes of a seat", on the real contracts: every cell of it is reached by seats that
//! are claimed, committed and revealed through this crate, and ends, payments and slashes are those of the table and of
//! [`sandrun_core::market::rules`], which know nothing of each other.
//!
//! What is played are scripts of `contracts/test/vectors/outcomes.json` (crates/core, `market_vectors`, says what the fields
//! mean), as few as reach everything; `SANDRUN_OUTCOMES=all` plays them all.

mod script;
mod table;

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use sandrun_chain::anvil::Anvil;
use sandrun_chain::{Call, Logged, MarketTerms, NodeRecord, Opening, Sender, SenderConfig};
use sandrun_core::market::rules::{Payment, Resolution, Settlement, Stake, Terms, Verdict, expiry_payment};
use sandrun_core::market::{JobFacts, Phase, Round, SeatEnd};
use sandrun_types::{
    Address, Amount, Answer, B256, ClassId, ClassKind, ContentDigest, ExitStatus, JobId, Order, OutputRoot,
    ResultParts, SeatIndex, Token, TraceRoot, U256, UnixSeconds, commitment,
};

use crate::world::{CLASS, Node, World};
use script::{Does, Script, Step, choose};
use table::{Cell, row, table};

const FILE: &str = include_str!("../../../../../contracts/test/vectors/outcomes.json");
/// Class `det`.
const DET: ClassId = ClassId([1; 32]);
/// A second of a script takes so many here, and all windows are longer by as much: between two steps there is room for the
/// blocks after which a ticket wins.
const SCALE: u64 = 20;
/// Blocks between two steps.
const BLOCKS: u64 = 12;
/// Gas of a claim, as the contract has it.
const CLAIM_GAS: u64 = 42_000;
const BURN: Address = Address::new([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xde, 0xad]);
/// Chains that are played on side by side.
const WORLDS: usize = 3;

fn terms() -> MarketTerms {
    let mut terms = MarketTerms::testnet();
    let scale = u32::try_from(SCALE).unwrap_or(1);
    let windows = &mut terms.parameters;
    windows.seat_window *= scale;
    windows.max_wall *= scale;
    windows.run_slack *= scale;
    windows.reveal_window *= scale;
    for token in &mut terms.tokens {
        token.attempt_fee = Amount::from_gwei(1_000);
        token.min_price = Amount::from_gwei(10_000);
    }
    terms
}

/// What people have.
#[derive(Debug)]
struct Holdings {
    nodes: Vec<NodeRecord>,
    client: Amount,
    burnt: Amount,
    tips: Amount,
}

/// A market on which scripts are played, one after the other.
struct Stage {
    world: World,
    nodes: Vec<Node>,
    keeper: Sender,
    posted: u64,
    reached: BTreeSet<Cell>,
}

impl Stage {
    async fn new() -> anyhow::Result<Self> {
        let world = World::on(&terms()).await?;
        let mut nodes = Vec::new();
        for account in 2..9 {
            let node = world.node(account).await?;
            let call = world.market.opt_in(node.index, node.stake, &[CLASS, DET]);
            node.sender.send(call).await?;
            nodes.push(node);
        }
        let keeper = Sender::new(
            world.chain.clone(),
            Anvil::key(9)?,
            Some(world.market.clone()),
            SenderConfig::default(),
        );
        Ok(Self {
            world,
            nodes,
            keeper,
            posted: 0,
            reached: BTreeSet::new(),
        })
    }

    async fn play_all(mut self, scripts: Vec<Script>) -> anyhow::Result<BTreeSet<Cell>> {
        for script in scripts {
            self.play(&script).await.with_context(|| script.name.clone())?;
        }
        Ok(self.reached)
    }

    fn order(&mut self, script: &Script) -> anyhow::Result<Order> {
        self.posted += 1;
        Ok(Order {
            class: match script.kind {
                ClassKind::Native => CLASS,
                ClassKind::Det => DET,
            },
            price: Amount::from_gwei(script.price),
            bond: Amount::from_gwei(script.bond),
            wall_limit: script.wall * u32::try_from(SCALE)?,
            ..self.world.order(script.n.try_into()?, self.posted)
        })
    }

    async fn play(&mut self, script: &Script) -> anyhow::Result<()> {
        self.world.chain.dev_mine(2, 1).await?;
        let before = self.holdings().await?;
        let order = self.order(script)?;
        let (job, posting) = self.world.post(&order).await?;
        let start = posting.events.first().context("no posting")?.at.timestamp;
        let mut seen = start;
        for (number, step) in script.steps.iter().enumerate() {
            self.pass(seen).await?;
            seen = start.plus(SCALE * step.at);
            self.world.chain.dev_next_block_at(seen).await?;
            let sent = self.act(&order, job, step, number).await;
            let at = sent.with_context(|| format!("step {number}: {step:?}"))?;
            ensure!(
                at == seen,
                "step {number} was mined at {at:?} and not at {seen:?}"
            );
        }
        let logged = self.world.reader.job_events(job).await?;
        let windows = terms().parameters.windows();
        let facts = JobFacts::fold(logged.iter().map(|it| &it.event), windows)?;
        let terms = Terms {
            redundancy: order.redundancy,
            kind: script.kind,
            price: Payment(order.price),
            bond: Stake(order.bond),
            fee: Payment::from_gwei(script.fee),
            granule: Payment::from_gwei(1),
        };
        self.check(script, &facts, &terms, &logged).await?;
        self.money(&order, &facts, before).await
    }

    /// Lets some blocks pass after this time.
    async fn pass(&self, seen: UnixSeconds) -> anyhow::Result<()> {
        self.world.chain.dev_next_block_at(seen.plus(1)).await?;
        Ok(self.world.chain.dev_mine(BLOCKS, 1).await?)
    }

    /// Makes the call of a step; when it was mined.
    async fn act(
        &self,
        order: &Order,
        job: JobId,
        step: &Step,
        number: usize,
    ) -> anyhow::Result<UnixSeconds> {
        let market = &self.world.market;
        let node = self.nodes.get(usize::from(step.seat)).context("a node")?;
        let (seat, salt) = (SeatIndex(step.seat), B256::repeat_byte(0x50 + step.seat));
        let parts = result(order.class, step.answer);
        let answer = match step.answer {
            1 => Answer::Unavailable,
            2 => Answer::Limit,
            _ => Answer::Digest(parts.digest(market.escrow_ref(), job)),
        };
        let (by, call): (&Sender, Call) = match step.does {
            Does::Claim => (&node.sender, market.claim(job, node.index, 0)),
            Does::Commit => {
                let state = self.world.reader.job(job).await?.context("a job")?;
                let round = u8::from(state.round == Round::Extra && step.seat >= state.seats_first);
                let bound = commitment(job, round, node.index, answer.to_word(), salt);
                (&node.sender, market.commit(job, seat, bound))
            }
            Does::Reveal => {
                // anyone may
                let by = if number.is_multiple_of(2) {
                    &self.keeper
                } else {
                    &node.sender
                };
                let opening = Opening {
                    seat,
                    answer: answer.to_word(),
                    salt,
                };
                let call = match answer {
                    Answer::Digest(_) => market.reveal_result(job, seat, &parts, salt),
                    Answer::Limit | Answer::Unavailable => market.reveal(job, &[opening]),
                };
                (by, call)
            }
            Does::Poke => (&self.keeper, market.poke(job)),
        };
        let outcome = by.send(call).await?;
        let block = self.world.chain.block_at(outcome.block.number).await?;
        Ok(block.context("a block")?.timestamp)
    }

    /// Every seat ended as the script, the rules and the table say.
    async fn check(
        &mut self,
        script: &Script,
        facts: &JobFacts,
        terms: &Terms,
        logged: &[Logged],
    ) -> anyhow::Result<()> {
        let state = self.world.reader.job(facts.job).await?.context("a job")?;
        ensure!(
            state.phase == Phase::Closed && facts.phase == Phase::Closed,
            "{:?} on the chain, {:?} by its events",
            state.phase,
            facts.phase
        );
        ensure!(facts.outcome() == Some(script.expect.outcome) && state.outcome == facts.outcome());
        ensure!(facts.seats.len() == script.expect.seats.len(), "{facts:#?}");
        let Some(resolution) = facts.resolution else {
            anyhow::bail!("nothing was decided");
        };
        let settled = match resolution {
            Resolution::Decided(verdict) => self.by_the_rules(script, facts, terms, verdict)?,
            Resolution::Expired => return self.expired(facts, terms, &state.remaining, logged).await,
            Resolution::Cancelled => anyhow::bail!("no script cancels"),
        };
        ensure!(
            settled.rest == Payment(state.remaining)
                && settled.rest == Payment::from_gwei(script.expect.refund),
            "{:?} is left by the rules, {:?} on the chain",
            settled.rest,
            state.remaining
        );
        Ok(())
    }

    fn by_the_rules(
        &mut self,
        script: &Script,
        facts: &JobFacts,
        terms: &Terms,
        verdict: Verdict,
    ) -> anyhow::Result<Settlement> {
        let settled = terms.settle(verdict, &facts.progress().seats);
        let winner = match verdict {
            Verdict::Won(answer) => Some(answer),
            Verdict::NoneWins => None,
        };
        let rows = facts.seats.iter().zip(&settled.seats).zip(&script.expect.seats);
        for (number, ((seat, rule), expect)) in rows.enumerate() {
            let end = seat.end.with_context(|| format!("seat {number} has no end"))?;
            ensure!(
                (end.end, end.paid, end.slashed) == (rule.end, rule.paid, rule.slashed),
                "seat {number} {:?}: {end:?} on the chain, {rule:?} by the rules",
                seat.standing
            );
            let expected = (
                expect.end,
                Payment::from_gwei(expect.paid),
                Stake::from_gwei(expect.slashed),
            );
            ensure!(
                (end.end, end.paid, end.slashed) == expected,
                "seat {number} {:?}: {end:?} on the chain, {expect:?} in the script",
                seat.standing
            );
            let part = end.slashed.0.0 * U256::from(100) / terms.bond.0.0;
            let row = row(seat.standing, winner);
            let outcome = script.expect.outcome;
            self.reached
                .insert((script.kind, row, outcome, end.end, part.to::<u64>()));
        }
        Ok(settled)
    }

    /// Bonds released, a claim's gas or a third of the fee for each claimant, the rest for the payer.
    async fn expired(
        &self,
        facts: &JobFacts,
        terms: &Terms,
        remaining: &Amount,
        logged: &[Logged],
    ) -> anyhow::Result<()> {
        let last = logged.last().context("events")?.at.block.number;
        let block = self.world.chain.block_at(last).await?.context("a block")?;
        let gas = U256::from(CLAIM_GAS) * U256::from(block.base_fee.unwrap_or_default());
        let pay = expiry_payment(terms.fee, Some(Payment(Amount(gas))), terms.granule);
        let mut rest = terms.locked_sum();
        for seat in &facts.seats {
            let end = seat.end.context("a seat without an end")?;
            ensure!(
                (end.end, end.paid, end.slashed) == (SeatEnd::Released, pay, Stake::ZERO),
                "{end:?}, a claimant of an expired job gets {pay:?}"
            );
            rest = rest.saturating_sub(pay);
        }
        ensure!(rest.0 == *remaining, "{remaining:?} is left and not {rest:?}");
        Ok(())
    }

    async fn holdings(&self) -> anyhow::Result<Holdings> {
        let reader = &self.world.reader;
        Ok(Holdings {
            nodes: reader.nodes().await?,
            client: reader.credit(self.world.client.address(), Token::Native).await?,
            burnt: self.world.chain.balance(BURN).await?,
            tips: reader.credit(self.keeper.address(), Token::Native).await?,
        })
    }

    /// What was locked is with those whom the ends name, what was slashed is burnt or a tip, no bond is left.
    async fn money(&self, order: &Order, facts: &JobFacts, before: Holdings) -> anyhow::Result<()> {
        let rest = facts.remaining();
        if !rest.is_zero() {
            self.keeper.send(self.world.market.refund(order)).await?;
        }
        let again = self.keeper.send(self.world.market.refund(order)).await;
        ensure!(again.is_err(), "the rest went back twice");
        let later = self.holdings().await?;
        let more = |after: Amount, before: Amount| after.checked_sub(before).context("less than before");
        let mut slashed = Stake::ZERO;
        for (after, before) in later.nodes.iter().zip(&before.nodes) {
            let end = facts.seat_of(after.index).and_then(|(_, seat)| seat.end);
            let (paid, lost) = end.map_or((Payment::ZERO, Stake::ZERO), |it| (it.paid, it.slashed));
            slashed = slashed.saturating_add(lost);
            let (earned, stake) = (
                more(after.escrow.earned, before.escrow.earned)?,
                more(before.registry.stake, after.registry.stake)?,
            );
            ensure!(
                earned == paid.0 && stake == lost.0 && after.escrow.locked.is_zero(),
                "{after:#?} after {before:#?}, {end:?}"
            );
            let (old, new) = (before.escrow.reputation, after.escrow.reputation);
            let is_fair = if lost.is_zero() {
                new == old || new == old + 1
            } else {
                new == 0
            };
            ensure!(is_fair, "reputation {new} after {old}, {end:?}");
        }
        ensure!(more(later.client, before.client)? == rest.0);
        let (burnt, tips) = (more(later.burnt, before.burnt)?, more(later.tips, before.tips)?);
        ensure!(
            burnt.0 + tips.0 == slashed.0.0 && tips.0 * U256::from(20) <= slashed.0.0,
            "{burnt:?} burnt and {tips:?} of tips for {slashed:?}"
        );
        Ok(())
    }
}

/// The result that a script calls digest `number`.
fn result(class: ClassId, number: u8) -> ResultParts {
    ResultParts {
        class,
        exit: ExitStatus::Code(0),
        output_root: OutputRoot([number; 32]),
        trace_root: TraceRoot([0; 32]),
        content: ContentDigest([5; 32]),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cell_of_the_outcomes_is_what_the_contract_does() -> anyhow::Result<()> {
    let scripts: Vec<Script> = serde_json::from_str(FILE)?;
    let is_all = std::env::var("SANDRUN_OUTCOMES").is_ok_and(|it| it == "all");
    let chosen = if is_all { scripts } else { choose(scripts) };
    let mut shares: Vec<Vec<Script>> = vec![Vec::new(); WORLDS];
    for (number, script) in chosen.into_iter().enumerate() {
        shares[number % WORLDS].push(script);
    }
    let played = shares
        .into_iter()
        .map(|share| async { tokio::spawn(Stage::new().await?.play_all(share)).await? });
    let reached: BTreeSet<Cell> = futures::future::try_join_all(played)
        .await?
        .into_iter()
        .flatten()
        .collect();
    let table = table();
    let missing: Vec<_> = table.difference(&reached).collect();
    let surplus: Vec<_> = reached.difference(&table).collect();
    ensure!(missing.is_empty(), "never reached: {missing:#?}");
    ensure!(surplus.is_empty(), "not in the table: {surplus:#?}");
    Ok(())
}
