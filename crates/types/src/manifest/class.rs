//! The class that somebody asks for, in words.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::{ClassId, ClassKind};

/// The execution class that a job asks for: any of a name, or an exact one. Its text is `native`, `det`, `det-soft`, or
/// an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClassRequest {
    /// Any class `native`.
    Native,
    /// Any class `det`.
    Det,
    /// Any class `det-soft`.
    DetSoft,
    /// This class and no other.
    Exact(ClassId),
}

/// A text that names no class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected native, det, det-soft, or a class id of 64 hexadecimal digits")]
pub struct NoClass;

impl ClassRequest {
    /// Whether a service that runs `class` may take the job.
    #[must_use]
    pub fn accepts(self, class: ClassId) -> bool {
        let is_det = class.kind() == Some(ClassKind::Det);
        match self {
            Self::Native => class.kind() == Some(ClassKind::Native),
            Self::Det => is_det && !class.is_soft(),
            Self::DetSoft => is_det && class.is_soft(),
            Self::Exact(exact) => exact == class,
        }
    }

    /// What a node of a queue says of itself where it runs such a class, and a job of the queue needs.
    #[must_use]
    pub fn feature(self) -> String {
        format!("class:{self}")
    }

    /// Every request that this class meets: its name, where it has one, and itself.
    #[must_use]
    pub fn met_by(class: ClassId) -> Vec<Self> {
        let all = [Self::Native, Self::Det, Self::DetSoft, Self::Exact(class)];
        all.into_iter().filter(|request| request.accepts(class)).collect()
    }
}

impl FromStr for ClassRequest {
    type Err = NoClass;

    fn from_str(text: &str) -> Result<Self, NoClass> {
        match text {
            "native" => Ok(Self::Native),
            "det" => Ok(Self::Det),
            "det-soft" => Ok(Self::DetSoft),
            id => id.parse().map(Self::Exact).map_err(|_| NoClass),
        }
    }
}

impl fmt::Display for ClassRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native => f.write_str("native"),
            Self::Det => f.write_str("det"),
            Self::DetSoft => f.write_str("det-soft"),
            Self::Exact(id) => id.fmt(f),
        }
    }
}

impl Serialize for ClassRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_meets_its_own_name_and_itself() {
        let mut soft = ClassId([7; 32]);
        (soft.0[0], soft.0[1]) = (1, ClassId::SOFT);
        let det = ClassId([1; 32]);
        let words = |class| {
            ClassRequest::met_by(class)
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(words(ClassId([0; 32])), ["native", &ClassId([0; 32]).to_string()]);
        assert_eq!(words(det), ["det", &det.to_string()]);
        assert_eq!(words(soft), ["det-soft", &soft.to_string()]);
        assert_eq!(words(ClassId([9; 32])), [ClassId([9; 32]).to_string()]);
        assert!(!ClassRequest::Exact(det).accepts(soft));
    }

    #[test]
    fn its_text_is_read_as_it_was_written() {
        for request in ClassRequest::met_by(ClassId([1; 32]))
            .into_iter()
            .chain([ClassRequest::DetSoft])
        {
            assert_eq!(request.to_string().parse(), Ok(request));
        }
        for text in ["", "Det", "det_soft", "soft", "0x12"] {
            assert_eq!(text.parse::<ClassRequest>(), Err(NoClass), "{text}");
        }
    }
}
