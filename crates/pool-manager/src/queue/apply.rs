//! From commands to the machine's events, and from its actions to rows and answers. Decides nothing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sandrun_core::pool::{
    Action, ClaimNumber, Event, Illegal, JobEnd, JobNumber, JobSpec, LeaseStep, NodeNumber, NodeSpec,
    NodeStatus, Report, SignatureCheck, Verification,
};
use sandrun_store::queue::{Answer, LogPiece, NewJob};
use sandrun_types::Attempt;

use super::batch::Batch;
use super::claims::Waiter;
use super::command::{Command, stage, stage_work};
use super::digest::{digest, explanation, is_success, output_root};
use super::error::QueueError;
use super::memory::Memory;
use super::words::{Accepted, Completion, Failure, Orders, Printed, Registration, Submission};

/// Bytes of one output of one attempt that are kept while it runs.
const LOG_BYTES: u64 = 16 << 20;

impl Memory {
    /// Does what a command says; a claim is not done but given back, to be served after all others.
    pub(super) fn obey(&mut self, command: Command, batch: &mut Batch) -> Option<Waiter> {
        match command {
            Command::Submit(jobs, reply) => {
                let answer = jobs.into_iter().map(|it| self.submit(it, batch)).collect();
                batch.answer(reply, Ok(answer));
            }
            Command::Register(node, reply) => {
                let answer = self.register(*node, batch);
                batch.answer(reply, answer);
            }
            Command::Heartbeat {
                node,
                jobs,
                settled,
                reply,
            } => {
                let answer = self.heartbeat(&node, &jobs, settled, batch);
                batch.early.push(stage(reply, answer));
            }
            Command::Claim(claim, reply) => match self.nodes.number(&claim.node) {
                Ok(node) => {
                    let until = Instant::now() + Duration::from_millis(claim.wait);
                    self.nodes.hear(node, batch.now);
                    let (max, number) = (claim.max, claim.number);
                    return Some(Waiter {
                        node,
                        max,
                        until,
                        number,
                        reply,
                    });
                }
                Err(error) => batch.answer(reply, Err(error)),
            },
            Command::Complete(completion, reply) => {
                let answer = self.complete(*completion, batch);
                batch.answer(reply, answer);
            }
            Command::Fail(failure, reply) => {
                let answer = self.fail(failure, batch);
                batch.answer(reply, answer);
            }
            Command::Begin(begun, reply) => {
                let answer = self.begin(begun, batch);
                batch.answer(reply, answer);
            }
            Command::Lose(node, reply) => {
                let answer = self.lose(&node, batch);
                batch.answer(reply, answer);
            }
            Command::Print(printed, reply) => {
                let answer = self.print(printed, batch);
                batch.answer(reply, answer);
            }
            Command::Cancel(job, reply) => {
                let answer = self.apply(Event::Cancel { job }, batch);
                batch.answer(reply, answer);
            }
            Command::SetDraining {
                node,
                draining,
                reply,
            } => {
                let answer = self.set_draining(&node, draining, batch);
                batch.answer(reply, answer);
            }
            Command::Nodes(reply) => batch.answer(reply, Ok(self.node_views())),
            Command::Living(_) | Command::Look | Command::Stop => {}
        }
        None
    }

    /// Serves a claim: with work, or with none if it does not wait any longer; gives it back if it does.
    pub(super) fn serve(&mut self, waiter: Waiter, batch: &mut Batch) -> Option<Waiter> {
        let mut leases = Vec::new();
        // who waits is asked of without a trace, as nothing has come from the node
        let is_over = waiter.until <= Instant::now();
        let is_new = is_over || self.pool.has_work_for(waiter.node);
        while is_new && leases.len() < waiter.max as usize {
            let node = waiter.node;
            match self.pool.apply(batch.seconds(), Event::Claim { node, job: None }) {
                Ok(actions) => {
                    let lease = actions.iter().find_map(|action| match action {
                        Action::Lease { job, attempt, .. } => Some((*job, *attempt)),
                        Action::NoWork { .. }
                        | Action::Stop { .. }
                        | Action::Retry { .. }
                        | Action::ExtraPlaces { .. }
                        | Action::End { .. }
                        | Action::NodeLost { .. } => None,
                    });
                    self.perform(actions, batch);
                    let Some(lease) = lease else { break };
                    self.hand(node, lease, waiter.number, batch);
                    leases.push(lease);
                }
                Err(error) => {
                    batch.answer(waiter.reply, Err(error.into()));
                    return None;
                }
            }
        }
        if leases.is_empty() && !is_over {
            return Some(waiter);
        }
        batch.tally.empty_claims += u64::from(leases.is_empty());
        batch.leased.extend(leases.iter().map(|(job, _)| *job));
        // the number of a job that is not on the disk might be another one's after all
        let is_durable = leases.iter().all(|(job, _)| job.0 <= batch.durable);
        let answer = stage_work(waiter.reply, leases);
        if is_durable {
            batch.early.push(answer);
        } else {
            batch.gives_late = true;
            batch.staged.push(answer);
        }
        None
    }

    /// Notes in the answer to which claim a lease goes out.
    fn hand(
        &mut self,
        node: NodeNumber,
        (job, attempt): (JobNumber, Attempt),
        claim: Option<ClaimNumber>,
        batch: &Batch,
    ) {
        let Some(claim) = claim else { return };
        let handed = Event::Handed {
            job,
            node,
            attempt,
            claim,
        };
        if let Err(error) = self.pool.apply(batch.seconds(), handed) {
            tracing::error!(%error, "a lease that was just given is not there");
        }
    }

    /// Applies an event and performs what follows from it.
    pub(super) fn apply(&mut self, event: Event, batch: &mut Batch) -> Result<(), QueueError> {
        let actions = self.pool.apply(batch.seconds(), event)?;
        self.perform(actions, batch);
        Ok(())
    }

    /// Performs actions: what is not told to anybody here is written with the rows of what was touched.
    pub(super) fn perform(&mut self, actions: Vec<Action>, batch: &mut Batch) {
        for action in actions {
            match action {
                Action::Lease {
                    job,
                    node,
                    attempt,
                    until,
                    ..
                } => {
                    self.push(job, attempt, node, until);
                    self.started.insert(job, batch.now);
                    batch.tally.leased += 1;
                    self.say_leased(job, attempt, node);
                }
                Action::NoWork { .. } => {}
                Action::Stop { job, node, attempt } => {
                    // of what is carried, its carrier hears when the job's row is written
                    if !self.pushes()
                        && let Some(entry) = self.nodes.get_mut(node)
                    {
                        entry.stop(job, attempt);
                    }
                }
                Action::Retry { job, attempt, reason } => {
                    batch.tally.retries.count(reason);
                    self.say_retry(job, attempt, reason);
                }
                Action::ExtraPlaces { job, places } => {
                    self.say_more_places(job, places);
                }
                Action::End { job, end } => {
                    let success = matches!(end, JobEnd::Agreed(digest) if is_success(digest));
                    batch.tally.completed += u64::from(success);
                    batch.tally.failed += u64::from(!success);
                    batch.tally.cancelled += u64::from(end == JobEnd::Cancelled);
                    if let (JobEnd::Agreed(_), Some(started)) = (&end, self.started.get(&job)) {
                        let took = batch.now.saturating_sub(*started);
                        batch.tally.runs.push(Duration::from_millis(took));
                    }
                    self.say_end(job, end);
                }
                Action::NodeLost { node } => {
                    batch.tally.nodes_lost += 1;
                    tracing::warn!(node = self.node_id(node), "a node is lost");
                }
            }
        }
    }

    pub(super) fn node_id(&self, node: NodeNumber) -> &str {
        self.nodes.get(node).map_or("", |entry| entry.id.as_str())
    }

    fn submit(&mut self, submission: Submission, batch: &mut Batch) -> Result<Accepted, QueueError> {
        let client = self.client(&submission.client, batch);
        let key = submission.idempotency.clone().map(|key| (client, key));
        if let Some(known) = key.as_ref().and_then(|key| batch.keys.get(key)) {
            return Ok(Accepted {
                job: *known,
                is_known: true,
                has_failed: false,
            });
        }
        let number = JobNumber(self.last_job + 1);
        let spec = JobSpec {
            client,
            priority: submission.priority,
            needs: submission.needs,
            replicas: submission.replicas,
            quorum: submission.quorum,
            lease_seconds: self.settings.lease_seconds(submission.timeout),
            retries: submission.retries,
            parents: submission.parents.iter().copied().collect::<BTreeSet<_>>(),
        };
        let actions = self
            .pool
            .apply(batch.seconds(), Event::Submit { job: number, spec })?;
        let has_failed = actions
            .iter()
            .any(|it| matches!(it, Action::End { job, .. } if *job == number));
        self.last_job = number.0;
        self.say_accepted(number);
        self.perform(actions, batch);
        batch.tally.submitted += 1;
        for body in submission.bodies {
            if batch.bodies.insert(body.blob) {
                batch.writes.bodies.push(body);
            }
        }
        batch.writes.new_jobs.push(NewJob {
            number,
            client,
            created: batch.now,
            priority: submission.priority.0,
            request: submission.request,
            blobs: submission.blobs,
            parents: submission.parents,
            idempotency: submission.idempotency,
        });
        if let Some(key) = key {
            batch.keys.insert(key, number);
        }
        Ok(Accepted {
            job: number,
            is_known: false,
            has_failed,
        })
    }

    fn register(&mut self, registration: Registration, batch: &mut Batch) -> Result<String, QueueError> {
        let Registration {
            endpoint,
            offer,
            announced,
        } = registration;
        let node = self.nodes.at(&endpoint).unwrap_or(NodeNumber(self.last_node + 1));
        let spec = NodeSpec {
            offer,
            slots: announced.slots.unwrap_or(u32::MAX),
            admitted: true,
        };
        self.reach(node);
        self.apply(Event::Register { node, spec }, batch)?;
        self.last_node = self.last_node.max(node.0);
        let ids = self.ids;
        self.nodes.register(node, &ids, endpoint, announced, batch.now);
        tracing::info!(node = self.node_id(node), "registered");
        Ok(ids.node_id(node))
    }

    fn heartbeat(
        &mut self,
        node: &str,
        jobs: &[(JobNumber, Attempt)],
        settled: Option<ClaimNumber>,
        batch: &mut Batch,
    ) -> Result<Orders, QueueError> {
        let node = self.nodes.number(node)?;
        self.reach(node);
        self.apply(Event::Heartbeat { node }, batch)?;
        let mut cancel = BTreeSet::new();
        for (job, attempt) in jobs {
            match self.held(*job, node) {
                Some((held, step)) if held == *attempt => self.begun(*job, node, held, step, batch)?,
                Some(_) | None => {
                    cancel.insert((*job, *attempt));
                }
            }
        }
        if let Some(settled) = settled {
            let held = jobs.iter().copied().collect();
            self.apply(Event::Holds { node, settled, held }, batch)?;
        }
        let status = self.pool.node(node).map(|(status, _)| status);
        let Some(entry) = self.nodes.get_mut(node) else {
            return Ok(Orders::default());
        };
        entry.heard = batch.now;
        let speaks = entry.announced.protocol >= 2;
        if speaks {
            cancel.append(&mut entry.take_stops());
        }
        Ok(Orders {
            speaks,
            cancel: cancel.into_iter().collect(),
            drain: status == Some(NodeStatus::Draining),
        })
    }

    /// A node works on what it was given.
    fn begun(
        &mut self,
        job: JobNumber,
        node: NodeNumber,
        attempt: Attempt,
        step: LeaseStep,
        batch: &mut Batch,
    ) -> Result<(), QueueError> {
        match step {
            LeaseStep::Given => self.apply(Event::Started { job, node, attempt }, batch),
            LeaseStep::Started | LeaseStep::Committed => Ok(()),
        }
    }

    fn complete(&mut self, completion: Completion, batch: &mut Batch) -> Result<(), QueueError> {
        let node = self.nodes.number(&completion.node)?;
        let job = completion.job;
        if self.pool.job(job).is_none() {
            return Err(Illegal::UnknownJob(job).into());
        }
        let held = self.held(job, node).map(|(attempt, _)| attempt);
        let attempt = completion
            .attempt
            .or(held)
            .or_else(|| self.answered(job, node))
            .ok_or(QueueError::HoldsNone)?;
        self.may_tell(job, node, attempt)?;
        let digest = digest(&completion);
        let report = Report {
            digest,
            signature: completion.check,
            success: is_success(digest),
        };
        let event = Event::Answered {
            job,
            node,
            attempt,
            report,
        };
        if held == Some(attempt) {
            self.forget_run(job, attempt);
            self.say_answered(job, attempt, node, completion.exit_code);
        }
        self.apply(event, batch)?;
        if held != Some(attempt) {
            // what was accepted before is said again
            return Ok(());
        }
        let is_believed = match (completion.check, self.settings.policy.verification) {
            (SignatureCheck::Valid, _) => true,
            (SignatureCheck::Absent, Verification::CommitReveal | Verification::Replicas) => true,
            (SignatureCheck::Absent, Verification::Signature) | (SignatureCheck::Invalid, _) => false,
        };
        if !is_believed {
            self.nodes.count(node, false);
            return Err(QueueError::BadSignature);
        }
        self.nodes.count(node, is_success(digest));
        let output_root = output_root(&completion);
        if let Some(words) = explanation(&completion) {
            batch.words.insert(job, words);
        }
        batch.writes.answers.push(Answer {
            job,
            attempt,
            node,
            exit_code: Some(completion.exit_code),
            stdout: completion.stdout,
            stderr: completion.stderr,
            outputs: completion.outputs,
            receipt: completion.receipt,
            signature: completion.signature,
            details: completion.details,
            output_root,
        });
        Ok(())
    }

    fn fail(&mut self, failure: Failure, batch: &mut Batch) -> Result<(), QueueError> {
        let node = self.nodes.number(&failure.node)?;
        let job = failure.job;
        if self.pool.job(job).is_none() {
            return Err(Illegal::UnknownJob(job).into());
        }
        let held = self.held(job, node).map(|(attempt, _)| attempt);
        let attempt = failure.attempt.or(held).ok_or(QueueError::HoldsNone)?;
        self.may_tell(job, node, attempt)?;
        if !failure.words.is_empty() {
            batch.words.insert(job, failure.words);
        }
        let retry = failure.retry;
        if held == Some(attempt) {
            self.forget_run(job, attempt);
        }
        self.apply(
            Event::Failed {
                job,
                node,
                attempt,
                retry,
            },
            batch,
        )?;
        self.nodes.count(node, false);
        self.say_given_up(job, attempt, node);
        Ok(())
    }

    fn print(&mut self, printed: Printed, batch: &mut Batch) -> Result<(), QueueError> {
        let node = self.nodes.number(&printed.node)?;
        let (job, attempt) = (printed.job, printed.attempt);
        if self.pool.job(job).is_none() {
            return Err(Illegal::UnknownJob(job).into());
        }
        match self.held(job, node) {
            Some((held, step)) if held == attempt => {
                self.may_tell(job, node, attempt)?;
                self.begun(job, node, attempt, step, batch)?;
            }
            Some(_) | None => return Err(Illegal::StaleAttempt { job, node, attempt }.into()),
        }
        for (stream, from, bytes) in printed.pieces {
            if !bytes.is_empty() && from.saturating_add(bytes.len() as u64) <= LOG_BYTES {
                batch.told.insert(job);
                batch.writes.logs.push(LogPiece {
                    job,
                    attempt,
                    stream,
                    from,
                    bytes,
                });
            }
        }
        Ok(())
    }
}
