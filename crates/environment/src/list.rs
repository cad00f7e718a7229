//! Which image a name stands for. Owns the list's file form and the list that comes with the product; a node's operator
//! or a client may have another.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sandrun_content::ContentId;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::name::{EnvironmentName, NameError, Reference};

/// The list of the product: made from the locks in `environments/`.
const BUILT_IN: &str = include_str!("../../../environments/list.json");
/// Longest list that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Names, and the image that each stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentList {
    environments: BTreeMap<EnvironmentName, ContentId>,
}

/// A list that cannot be read.
#[derive(Debug, Error)]
pub enum ListError {
    /// No such file, or none that may be read.
    #[error("the list of environments {} can't be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its content is no list.
    #[error(
        "{} is no list of environments ({source}): write {{\"environments\": {{\"NAME\": \"CONTENT ID\"}}}}", path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// What is no environment here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnknownEnvironment {
    /// Neither a name nor an id.
    #[error(transparent)]
    Reference(#[from] NameError),
    /// A name that is not in the list.
    #[error("there is no environment `{name}`; known are {known}, and any content id can be named instead")]
    Name {
        /// The name.
        name: EnvironmentName,
        /// The names that there are.
        known: String,
    },
}

impl EnvironmentList {
    /// The list that comes with the product.
    #[must_use]
    pub fn built_in() -> Self {
        // a test holds the file to its form
        serde_json::from_str(BUILT_IN).unwrap_or_default()
    }

    /// The list that comes with the product, with what the file at `path` says over it.
    ///
    /// # Errors
    /// [`ListError`].
    pub fn with_file(path: &Path) -> Result<Self, ListError> {
        use std::io::Read as _;
        let read = |source| ListError::Read {
            path: path.to_owned(),
            source,
        };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(read)?;
        file.take(MAX_BYTES).read_to_string(&mut text).map_err(read)?;
        let own: Self = serde_json::from_str(&text).map_err(|source| ListError::Malformed {
            path: path.to_owned(),
            source,
        })?;
        let mut list = Self::built_in();
        list.environments.extend(own.environments);
        Ok(list)
    }

    /// Puts a name in.
    pub fn insert(&mut self, name: EnvironmentName, image: ContentId) {
        self.environments.insert(name, image);
    }

    /// The image that a manifest's `environment` stands for.
    ///
    /// # Errors
    /// [`UnknownEnvironment`].
    pub fn resolve(&self, text: &str) -> Result<ContentId, UnknownEnvironment> {
        match text.parse()? {
            Reference::Content(id) => Ok(id),
            Reference::Name(name) => self.environments.get(&name).copied().ok_or_else(|| {
                let known: Vec<&str> = self.environments.keys().map(EnvironmentName::as_str).collect();
                let known = if known.is_empty() {
                    "none by name".to_owned()
                } else {
                    known.join(", ")
                };
                UnknownEnvironment::Name { name, known }
            }),
        }
    }

    /// All of it, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&EnvironmentName, ContentId)> {
        self.environments.iter().map(|(name, id)| (name, *id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_products_own_list_has_its_names() {
        let list: EnvironmentList = serde_json::from_str(BUILT_IN).unwrap();
        for name in ["ml-basic", "vision", "nlp", "data-science", "scientific"] {
            assert!(list.resolve(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_that_there_are() {
        let words = EnvironmentList::built_in()
            .resolve("numpy")
            .unwrap_err()
            .to_string();
        assert!(
            words.contains("`numpy`") && words.contains("ml-basic, nlp"),
            "{words}"
        );
        let words = EnvironmentList::default()
            .resolve("numpy")
            .unwrap_err()
            .to_string();
        assert!(words.contains("none by name"), "{words}");
    }

    #[test]
    fn a_file_wins_over_the_products_own_list() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.json");
        let id = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354";
        std::fs::write(
            &path,
            format!(r#"{{"environments":{{"nlp":"{id}","own":"{id}"}}}}"#),
        )
        .unwrap();
        let list = EnvironmentList::with_file(&path).unwrap();
        assert_eq!(list.resolve("nlp").unwrap().to_string(), id);
        assert_eq!(list.resolve("own"), list.resolve("nlp"));
        assert_ne!(list.resolve("vision"), list.resolve("nlp"));
        std::fs::write(&path, "[]").unwrap();
        assert!(matches!(
            EnvironmentList::with_file(&path),
            Err(ListError::Malformed { .. })
        ));
    }
}
