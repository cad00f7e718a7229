//! One random script on every kind of store, against one model in memory.

#[path = "queue/model.rs"]
mod model;
#[path = "queue/script.rs"]
mod script;

use proptest::prelude::*;
use sandrun_store::queue::QueueAddress;
use script::{KINDS, Stage, Step};
use tokio::runtime::Runtime;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec((0..KINDS, any::<u64>()), 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_does_what_the_model_does(script in steps()) {
        let runtime = Runtime::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let address = QueueAddress::Sqlite(folder.path().join("data/queue.sqlite"));
        let mut stage = Stage::open(&runtime, &address, 1);
        for step in script {
            stage.act(step);
        }
        stage.finish();
    }
}
