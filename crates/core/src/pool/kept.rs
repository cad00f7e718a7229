//! How an ended job, and the hardware that one asks for, are written in snapshots: short, as the rows of a large queue
//! share pages, and a row that grows when its job ends takes another's place. What earlier versions have written is
//! read, too. Decides nothing.

/// An ended job: its end, and the answers that were accepted, without the digest that it ended with.
pub(super) mod ended {
    use sandrun_types::{Attempt, ResultDigest};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use crate::pool::job::{is_yes, yes};
    use crate::pool::{Answered, JobEnd, NodeNumber};

    #[derive(Serialize, Deserialize)]
    struct Ended {
        end: JobEnd,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        by: Vec<Accepted>,
        /// What earlier versions have in place of `by`.
        #[serde(default, skip_serializing)]
        accepted: Vec<Answered>,
    }

    #[derive(Serialize, Deserialize)]
    struct Accepted {
        #[serde(rename = "n")]
        node: NodeNumber,
        #[serde(rename = "a")]
        attempt: Attempt,
        /// Where it is not the one that the job ended with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<ResultDigest>,
        #[serde(default = "yes", skip_serializing_if = "is_yes")]
        success: bool,
    }

    const fn agreed(end: JobEnd) -> Option<ResultDigest> {
        match end {
            JobEnd::Agreed(digest) => Some(digest),
            JobEnd::Failed(_) | JobEnd::Cancelled => None,
        }
    }

    pub(in crate::pool) fn serialize<S: Serializer>(
        end: &JobEnd,
        accepted: &[Answered],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let agreed = agreed(*end);
        let short = |it: &Answered| Accepted {
            node: it.node,
            attempt: it.attempt,
            digest: (agreed != Some(it.digest)).then_some(it.digest),
            success: it.success,
        };
        let ended = Ended {
            end: *end,
            by: accepted.iter().map(short).collect(),
            accepted: Vec::new(),
        };
        ended.serialize(serializer)
    }

    pub(in crate::pool) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<(JobEnd, Vec<Answered>), D::Error> {
        let Ended { end, by, accepted } = Ended::deserialize(deserializer)?;
        let whole = |it: Accepted| {
            let digest = it.digest.or_else(|| agreed(end));
            Ok(Answered {
                node: it.node,
                attempt: it.attempt,
                digest: digest.ok_or_else(|| de::Error::custom("an answer has no digest"))?,
                success: it.success,
            })
        };
        let by = by.into_iter().map(whole);
        let all = accepted.into_iter().map(Ok).chain(by);
        Ok((end, all.collect::<Result<_, D::Error>>()?))
    }
}

/// Hardware: the word that stands for it in a market's order.
pub(super) mod hardware {
    use sandrun_types::{Requirements, U256};
    use serde::{Deserialize, Deserializer, Serialize as _, Serializer, de};

    /// As it is written, and as earlier versions have written it.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Word(U256),
        Fields(Requirements),
    }

    pub(in crate::pool) fn serialize<S: Serializer>(
        hardware: &Requirements,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        hardware.to_word().serialize(serializer)
    }

    pub(in crate::pool) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Requirements, D::Error> {
        match Either::deserialize(deserializer)? {
            Either::Fields(fields) => Ok(fields),
            Either::Word(word) => Requirements::from_word(word)
                .ok_or_else(|| de::Error::custom("hardware is asked for that this version does not know")),
        }
    }
}
