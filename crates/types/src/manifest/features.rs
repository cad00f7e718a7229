//! What nodes of a queue say of themselves, and what a manifest needs of them, in one set of words: classes and
//! environments.

use std::collections::BTreeSet;

use super::{ClassRequest, Manifest};
use crate::ClassId;

/// Said by a node where jobs may name an environment: its executor fetches any.
const ENVIRONMENTS: &str = "environments";

/// What a node whose executor runs these classes says, `environments` where it fetches them.
#[must_use]
pub fn node_features(classes: impl IntoIterator<Item = ClassId>, environments: bool) -> BTreeSet<String> {
    let requests = classes.into_iter().flat_map(ClassRequest::met_by);
    let classes = requests.map(ClassRequest::feature);
    classes
        .chain(environments.then(|| ENVIRONMENTS.to_owned()))
        .collect()
}

impl Manifest {
    /// What a node has to say so that it may get the job. Without a class any node will do.
    #[must_use]
    pub fn features(&self) -> BTreeSet<String> {
        let class = self.class.map(ClassRequest::feature);
        let environment = self.environment.as_ref().map(|_| ENVIRONMENTS.to_owned());
        class.into_iter().chain(environment).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goes(manifest: &str, classes: &[u8], environments: bool) -> bool {
        let needs = Manifest::parse(manifest.as_bytes()).unwrap().features();
        needs.is_subset(&node_features(
            classes.iter().map(|byte| ClassId([*byte; 32])),
            environments,
        ))
    }

    #[test]
    fn a_job_goes_where_its_class_and_its_environment_can_be_had() {
        assert!(goes("{}", &[], false));
        assert!(goes(r#"{"class":"native"}"#, &[0], false));
        assert!(goes(r#"{"class":"det"}"#, &[0, 1], false));
        assert!(!goes(r#"{"class":"det"}"#, &[0], true));
        assert!(!goes(r#"{"class":"det-soft"}"#, &[0, 1], true));
        assert!(goes(
            &format!(r#"{{"class":"{}"}}"#, ClassId([1; 32])),
            &[0, 1],
            false
        ));
        assert!(!goes(
            &format!(r#"{{"class":"{}"}}"#, ClassId([3; 32])),
            &[0, 1],
            false
        ));
        assert!(goes(r#"{"environment":"ml-basic"}"#, &[0], true));
        assert!(!goes(r#"{"environment":"ml-basic"}"#, &[0, 1], false));
    }
}
