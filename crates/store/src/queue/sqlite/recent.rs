//! Jobs that were submitted just now, as the acknowledged batches have left them: most jobs are asked for within moments
//! of their submission, when the tables do not have them yet.
//!
//! A window over the last batches. A job is here as long as the batch with its submission is; all later batches are then
//! here as well, so that what is known of it is complete.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use sandrun_core::pool::JobNumber;

use super::select::exit_code;
use crate::queue::codec::clean;
use crate::queue::{Answer, JobRow, Writes};

/// Bytes of the batches that are kept.
const BYTES: usize = 2 << 20;

/// A row of a batch.
#[derive(Debug, Clone)]
struct At(Arc<Writes>, usize);

/// What the batches say of a job.
#[derive(Debug)]
struct Entry {
    new: At,
    state: At,
    answers: Vec<At>,
}

/// The window.
#[derive(Debug, Default)]
pub(super) struct Recent {
    batches: VecDeque<(Arc<Writes>, usize)>,
    bytes: usize,
    jobs: HashMap<JobNumber, Entry>,
}

impl Recent {
    /// The next batch was acknowledged; its record has so many bytes. Those that go for it are handed over: to free them
    /// takes longer than the rest.
    pub(super) fn take_in(&mut self, writes: &Arc<Writes>, bytes: usize, gone: &mut Vec<Arc<Writes>>) {
        self.take_in_jobs(writes);
        self.bytes += bytes;
        self.batches.push_back((Arc::clone(writes), bytes));
        while self.bytes > BYTES
            && let Some((oldest, bytes)) = self.batches.pop_front()
        {
            self.bytes -= bytes;
            for new in &oldest.new_jobs {
                self.jobs.remove(&new.number);
            }
            gone.push(oldest);
        }
    }

    fn take_in_jobs(&mut self, writes: &Arc<Writes>) {
        let at = |index| At(Arc::clone(writes), index);
        let first = writes.new_jobs.first().map(|new| new.number);
        for (index, state) in writes.jobs.iter().enumerate() {
            if let Some(entry) = self.jobs.get_mut(&state.number) {
                entry.state = at(index);
            } else if first.is_some_and(|first| state.number >= first)
                && let Ok(of_new) = writes
                    .new_jobs
                    .binary_search_by_key(&state.number, |new| new.number)
            {
                let entry = Entry {
                    new: at(of_new),
                    state: at(index),
                    answers: Vec::new(),
                };
                self.jobs.insert(state.number, entry);
            }
        }
        for (index, answer) in writes.answers.iter().enumerate() {
            if let Some(entry) = self.jobs.get_mut(&answer.job) {
                entry.answer(at(index), answer);
            }
        }
    }

    /// A job with its answers in the order of attempts, if it is here.
    pub(super) fn find(&self, job: JobNumber) -> Option<(JobRow, Vec<Answer>)> {
        let Entry { new, state, answers } = self.jobs.get(&job)?;
        let At(writes, index) = new;
        let new = writes.new_jobs.get(*index)?;
        // whose name is not there was known before
        let client = writes.clients.iter().find(|it| it.number == new.client)?;
        let mut row = JobRow {
            new: new.clone(),
            client_name: clean(&client.name).into_owned(),
            state: state.0.jobs.get(state.1)?.clone(),
            exit_code: None,
        };
        // as the tables will have it
        for text in [&mut row.new.idempotency, &mut row.state.reason]
            .into_iter()
            .flatten()
        {
            if let Cow::Owned(cleaned) = clean(text) {
                *text = cleaned;
            }
        }
        let answer = |at: &At| at.0.answers.get(at.1).cloned();
        let answers: Vec<Answer> = answers.iter().map(answer).collect::<Option<_>>()?;
        row.exit_code = exit_code(&row.state, &answers);
        Some((row, answers))
    }

    /// Something else than a batch has changed the tables: they alone say what there is.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

impl Entry {
    /// One for each attempt: the first stays.
    fn answer(&mut self, at: At, answer: &Answer) {
        let of = |at: &At| at.0.answers.get(at.1).map(|it| it.attempt);
        let place = self.answers.binary_search_by_key(&Some(answer.attempt), of);
        if let Err(place) = place {
            self.answers.insert(place, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{ClientRow, JobState, JobWord, NewJob};
    use sandrun_core::pool::{ClientNumber, NodeNumber};
    use sandrun_types::Attempt;

    fn state(number: u64, word: JobWord) -> JobState {
        JobState {
            number: JobNumber(number),
            open: word != JobWord::Completed,
            word,
            reason: None,
            node: None,
            attempt: None,
            started: None,
            ended: None,
            snapshot: Vec::new(),
        }
    }

    fn submitted(numbers: std::ops::Range<u64>) -> Arc<Writes> {
        let new = |number| NewJob {
            number: JobNumber(number),
            client: ClientNumber(1),
            created: 1,
            priority: 4,
            request: vec![1],
            blobs: Vec::new(),
            parents: Vec::new(),
            idempotency: None,
        };
        let client = ClientRow {
            number: ClientNumber(1),
            name: "ann".to_owned(),
        };
        Arc::new(Writes {
            clients: vec![client],
            new_jobs: numbers.clone().map(new).collect(),
            jobs: numbers.map(|number| state(number, JobWord::Pending)).collect(),
            ..Writes::default()
        })
    }

    fn answered(number: u64, attempt: u32, stdout: &str) -> Arc<Writes> {
        let answer = Answer {
            job: JobNumber(number),
            attempt: Attempt(attempt),
            node: NodeNumber(1),
            exit_code: Some(0),
            stdout: stdout.as_bytes().to_vec(),
            stderr: Vec::new(),
            outputs: Vec::new(),
            receipt: None,
            signature: None,
            details: Vec::new(),
            output_root: None,
        };
        Arc::new(Writes {
            jobs: vec![state(number, JobWord::Completed)],
            answers: vec![answer],
            ..Writes::default()
        })
    }

    #[test]
    fn a_job_is_as_the_last_batch_left_it_until_its_submission_goes() {
        let (mut recent, mut gone) = (Recent::default(), Vec::new());
        recent.take_in(&submitted(1..4), 1, &mut gone);
        recent.take_in(&answered(2, 2, "late"), 1, &mut gone);
        recent.take_in(&answered(2, 1, "first"), 1, &mut gone);
        recent.take_in(&answered(2, 1, "again"), 1, &mut gone);
        let (row, answers) = recent.find(JobNumber(2)).unwrap();
        assert_eq!(
            (row.client_name.as_str(), row.state.word),
            ("ann", JobWord::Completed)
        );
        let told: Vec<&[u8]> = answers.iter().map(|it| it.stdout.as_slice()).collect();
        assert_eq!(told, [b"first".as_slice(), b"late"]);
        assert_eq!(recent.find(JobNumber(3)).unwrap().0.state.word, JobWord::Pending);
        recent.take_in(&submitted(4..5), BYTES, &mut gone);
        assert!(recent.find(JobNumber(2)).is_none() && recent.find(JobNumber(4)).is_some());
        recent.take_in(&answered(2, 1, "x"), 1, &mut gone);
        assert!(recent.find(JobNumber(2)).is_none(), "its submission is not here");
        recent.forget();
        assert!(recent.find(JobNumber(4)).is_none());
    }
}
