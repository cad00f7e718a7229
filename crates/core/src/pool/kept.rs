//! How an ended job, and the hardware that one asks for, are written in snapshots: short, as the rows of a large queue
//! share pages, and hardly longer than an open one where all went well, as a row that grows takes another's place. What
//! earlier versions have written is read, too. Decides nothing.

/// An ended job: its end, and the answers that were accepted.
pub(super) mod ended {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
    use sandrun_types::{Attempt, ResultDigest};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use crate::pool::{Answered, JobEnd, NodeNumber};

    #[derive(Default, Serialize, Deserialize)]
    struct Ended {
        /// Where all answers are successes with the digest that was agreed on: that digest, in base64.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agreed: Option<String>,
        /// Whose these answers are.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        by: Vec<(NodeNumber, Attempt)>,
        /// Any other end, and each one of earlier versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        end: Option<JobEnd>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        accepted: Vec<Answered>,
    }

    /// The digest that was agreed on and that all have given.
    fn unanimous(end: JobEnd, accepted: &[Answered]) -> Option<ResultDigest> {
        match end {
            JobEnd::Agreed(digest) => accepted
                .iter()
                .all(|it| it.success && it.digest == digest)
                .then_some(digest),
            JobEnd::Failed(_) | JobEnd::Cancelled => None,
        }
    }

    pub(in crate::pool) fn serialize<S: Serializer>(
        end: &JobEnd,
        accepted: &[Answered],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let ended = match unanimous(*end, accepted) {
            Some(digest) => Ended {
                agreed: Some(BASE64.encode(digest.0)),
                by: accepted.iter().map(|it| (it.node, it.attempt)).collect(),
                ..Ended::default()
            },
            None => Ended {
                end: Some(*end),
                accepted: accepted.to_vec(),
                ..Ended::default()
            },
        };
        ended.serialize(serializer)
    }

    pub(in crate::pool) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<(JobEnd, Vec<Answered>), D::Error> {
        let ended = Ended::deserialize(deserializer)?;
        let Some(agreed) = ended.agreed else {
            let end = ended.end.ok_or_else(|| de::Error::missing_field("end"))?;
            return Ok((end, ended.accepted));
        };
        let bytes = BASE64.decode(agreed).map_err(de::Error::custom)?;
        let digest = <[u8; 32]>::try_from(bytes).map_err(|_| de::Error::custom("a digest has 32 bytes"))?;
        let digest = ResultDigest(digest);
        let answer = |(node, attempt)| Answered {
            node,
            attempt,
            digest,
            success: true,
        };
        Ok((JobEnd::Agreed(digest), ended.by.into_iter().map(answer).collect()))
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
