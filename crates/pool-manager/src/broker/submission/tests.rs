//! What is accepted, what it becomes, and what is refused.

use sandrun_store::queue::BlobHash;
use serde_json::json;

use super::*;

const KEY: IdKey = IdKey::new([3; 32], "");

fn files(names: &[&str]) -> Vec<OutputRef> {
    let file = |name: &&str| OutputRef {
        path: (*name).to_owned(),
        size: 1,
        blob: BlobHash([1; 32]),
    };
    names.iter().map(file).collect()
}

fn check(fields: Value, names: &[&str]) -> Result<Submission, ApiError> {
    let mut fields: JobFields = serde_json::from_value(fields).unwrap();
    let mut files = files(names);
    if let Some((name, _)) = fields.code_file() {
        files.extend(self::files(&[name.as_str()]));
    }
    let context = Context {
        client: "c",
        settings: &QueueSettings::BROKER,
        ids: &KEY,
        now: 0,
    };
    fields.check(files, context)
}

fn stored(submission: &Submission) -> Value {
    serde_json::from_slice(&submission.request).unwrap()
}

#[test]
fn code_of_existing_clients_stays_code_and_needs_nothing_but_its_interpreter() {
    let job = check(json!({"code": "print(1)", "args": null, "colour": 1}), &[]).unwrap();
    let needs = Needs {
        interpreter: Some(Interpreter::Python3),
        ..Needs::default()
    };
    assert_eq!(
        (job.needs.clone(), job.timeout, job.quorum, job.priority),
        (needs, 300, 1, Priority(4))
    );
    assert_eq!(
        stored(&job),
        json!({"code": "print(1)", "interpreter": "python3", "timeout": 300, "replicas": 1, "quorum": 1, "submitted": 0})
    );
    let job = check(json!({"code": "x", "interpreter": "sh", "timeout": 0.5}), &[]).unwrap();
    assert_eq!((job.timeout, job.needs.interpreter), (1, Some(Interpreter::Bash)));
}

#[test]
fn code_that_asks_for_more_is_a_bundle_of_one_file() {
    let job = check(
        json!({"code": "x", "interpreter": "node", "memory_mb": 700, "timeout": 9}),
        &[],
    )
    .unwrap();
    let stored = stored(&job);
    assert_eq!(stored["files"][0]["path"], "index.js");
    assert_eq!(
        stored["manifest"],
        json!({"entrypoint": "index.js", "interpreter": "node", "memory_mb": 700, "timeout": 9})
    );
    assert_eq!((job.needs.hardware.memory_mib, job.timeout), (700, 9));
    assert!(job.needs.features.contains("bundle") && job.needs.features.contains("outputs"));
    let job = check(json!({"code": "x", "manifest": {"entrypoint": "a/b.rb"}}), &[]).unwrap();
    assert_eq!(job.needs.interpreter, Some(Interpreter::Ruby));
}

#[test]
fn a_class_and_an_environment_are_needs() {
    let manifest = json!({"entrypoint": "a.py", "class": "det-soft", "environment": "ml-basic"});
    let job = check(json!({"code": "x", "manifest": manifest}), &[]).unwrap();
    for feature in ["class:det-soft", "environments"] {
        assert!(job.needs.features.contains(feature), "{:?}", job.needs);
    }
    let job = check(json!({"code": "x", "manifest": {"entrypoint": "a.py"}}), &[]).unwrap();
    assert!(
        !job.needs
            .features
            .iter()
            .any(|it| it.starts_with("class:") || it == "environments")
    );
}

#[test]
fn a_manifest_among_the_files_says_what_is_needed_unless_another_is_sent() {
    let with_own = |fields: Value| {
        let mut fields: JobFields = serde_json::from_value(fields).unwrap();
        let own = br#"{"entrypoint": "a.rb", "class": "det", "environment": "ml-basic", "timeout": 9, "memory_mb": 700}"#;
        fields.set_own_manifest(Ok(own.to_vec()));
        let context = Context {
            client: "c",
            settings: &QueueSettings::BROKER,
            ids: &KEY,
            now: 0,
        };
        fields.check(files(&["a.rb", "job.json"]), context).unwrap()
    };
    let job = with_own(json!({}));
    for feature in ["class:det", "environments"] {
        assert!(job.needs.features.contains(feature), "{:?}", job.needs);
    }
    assert_eq!(
        (job.needs.interpreter, job.needs.hardware.memory_mib, job.timeout),
        (Some(Interpreter::Ruby), 700, 9)
    );
    assert!(
        stored(&job).get("manifest").is_none_or(Value::is_null),
        "the executor reads it"
    );
    let job = with_own(json!({"manifest": {"entrypoint": "a.rb"}}));
    assert!(!job.needs.features.contains("environments"), "{:?}", job.needs);
}

#[test]
fn a_job_runs_as_long_as_its_lease_reckons_with() {
    let with = |job_timeout: u32, fields: Value, names: &[&str], own: Option<&[u8]>| {
        let mut fields: JobFields = serde_json::from_value(fields).unwrap();
        let mut files = files(names);
        if let Some((name, _)) = fields.code_file() {
            files.extend(self::files(&[name.as_str()]));
        }
        if let Some(own) = own {
            fields.set_own_manifest(Ok(own.to_vec()));
        }
        let settings = QueueSettings {
            job_timeout,
            ..QueueSettings::COORDINATOR
        };
        let context = Context {
            client: "c",
            settings: &settings,
            ids: &KEY,
            now: 0,
        };
        let job = fields.check(files, context).unwrap();
        let stored = stored(&job);
        let sent = stored.get("manifest").and_then(|it| it["timeout"].as_u64());
        assert_eq!(stored["timeout"], job.timeout);
        (job.timeout, sent)
    };
    // who does not say gets what the service says, wherever the manifest comes from
    let env = json!({"code": "x", "env": {"A": "b"}});
    let manifest = json!({"manifest": {"entrypoint": "a.sh"}});
    for (fields, names, own) in [
        (env.clone(), vec![], None),
        (manifest, vec!["a.sh"], None),
        (json!({}), vec!["main.py"], None),
        (
            json!({}),
            vec!["a.rb", "job.json"],
            Some(&br#"{"entrypoint": "a.rb"}"#[..]),
        ),
    ] {
        assert_eq!(with(40, fields, &names, own), (40, Some(40)), "{names:?}");
    }
    let stated = Some(&br#"{"entrypoint": "a.rb", "timeout": 9}"#[..]);
    assert_eq!(with(40, json!({}), &["a.rb", "job.json"], stated), (9, None));
    // a manifest may lie where nobody looks
    for name in ["a.tar.gz", "A.ZIP"] {
        assert_eq!(
            with(40, json!({}), &[name], None),
            (Manifest::MAX_TIMEOUT, None),
            "{name}"
        );
    }
    let sent = json!({"manifest": {"entrypoint": "a.sh"}});
    assert_eq!(with(40, sent, &["a.tar.gz"], None), (40, Some(40)));
    // nobody runs longer than a manifest may say
    assert_eq!(with(7_200, env, &[], None), (3_600, Some(3_600)));
    assert_eq!(with(7_200, json!({"code": "x"}), &[], None), (3_600, None));
}

#[test]
fn a_timeout_that_is_too_long_is_refused_however_it_is_sent() {
    for more in [json!({}), json!({"env": {"A": "b"}})] {
        let mut fields = json!({"code": "x", "timeout": 7_200});
        fields
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let refused = check(fields, &[]).unwrap_err();
        assert!(refused.message.contains("3600 seconds"), "{}", refused.message);
    }
}

#[test]
fn a_file_of_a_manifests_name_is_one_only_where_no_other_is_sent() {
    let with_data = |fields: Value| {
        let mut fields: JobFields = serde_json::from_value(fields).unwrap();
        fields.set_own_manifest(Ok(b"[1, 2]".to_vec()));
        let context = Context {
            client: "c",
            settings: &QueueSettings::BROKER,
            ids: &KEY,
            now: 0,
        };
        fields.check(files(&["main.py", "job.json"]), context)
    };
    let refused = with_data(json!({})).unwrap_err();
    assert!(refused.message.contains("job.json"), "{}", refused.message);
    with_data(json!({"env": {"A": "1"}})).unwrap();
    with_data(json!({"manifest": {"entrypoint": "main.py"}})).unwrap();
}

#[test]
fn a_bundle_says_what_it_needs() {
    let fields = json!({
        "manifest": {"gpu": {"min_vram_gb": 2}, "timeout": 5}, "timeout": 7, "priority": 9,
        "requirements": {"cpu_cores": 3, "region": "eu", "labels": {"disk": "fast"}},
    });
    let job = check(fields, &["main.py"]).unwrap();
    assert_eq!((job.timeout, job.priority), (5, Priority(9)));
    let hardware = job.needs.hardware;
    assert_eq!(
        (hardware.cpu_cores, hardware.gpu, hardware.vram_mib),
        (3, true, 2_048)
    );
    assert_eq!(
        (job.needs.region.as_deref(), job.needs.labels.len()),
        (Some("eu"), 1)
    );
    // what an archive holds is the executor's to look at
    let job = check(json!({"manifest": {"entrypoint": "x.py"}}), &["job.tar.gz"]).unwrap();
    assert_eq!(job.needs.interpreter, None);
    let job = check(json!({}), &["job.json", "a.py"]).unwrap();
    assert_eq!(stored(&job)["manifest"], Value::Null);
}

#[test]
fn parents_are_named_by_their_ids() {
    let parent = KEY.job_id(sandrun_core::pool::JobNumber(5));
    let job = check(
        json!({"code": "x", "after": [{"job": parent, "into": "in"}]}),
        &[],
    )
    .unwrap();
    assert_eq!(job.parents, [sandrun_core::pool::JobNumber(5)]);
    assert_eq!(stored(&job)["after"], json!([{"job": parent, "into": "in"}]));
}

#[test]
fn a_folder_for_what_parents_leave_is_no_file_of_the_job() {
    let after = |into: &str| {
        let job = KEY.job_id(sandrun_core::pool::JobNumber(5));
        json!({"manifest": {"entrypoint": "c/d.py"}, "after": [{"job": job, "into": into}]})
    };
    for into in ["c/d.py", "c/d.py/in", "x", "x/y/z"] {
        let error = check(after(into), &["c/d.py", "x"]).unwrap_err().message;
        assert!(error.contains("is a file of this job"), "{into}: {error}");
    }
    // beside its files, and where an archive was
    for into in ["c", "c/d.p", "c/d.pyx", "in", "a.zip", ""] {
        check(after(into), &["c/d.py", "x", "a.zip"]).unwrap();
    }
    let own = json!({"code": "x", "after": [{"job": KEY.job_id(sandrun_core::pool::JobNumber(5)), "into": "main.py"}]});
    assert!(check(own, &[]).unwrap_err().message.contains("main.py is a file"));
}

#[test]
fn what_makes_no_sense_is_refused_in_words() {
    for (fields, names, word) in [
        (json!({}), vec![], "nothing to run"),
        (json!({"code": ""}), vec![], "`code` is empty"),
        (json!({"code": "x", "interpreter": "cobol"}), vec![], "cobol"),
        (json!({"code": "x", "timeout": 0}), vec![], "timeout"),
        (json!({"code": "x", "timeout": 1e9}), vec![], "timeout"),
        (json!({"code": "x", "priority": 10}), vec![], "priority"),
        (json!({"code": "x", "replicas": 0}), vec![], "replicas"),
        (json!({"code": "x", "replicas": 4, "quorum": 2}), vec![], "quorum"),
        (json!({"code": "x", "retries": 4}), vec![], "retries"),
        (json!({"code": "x", "idempotency_key": ""}), vec![], "idempotency"),
        (json!({"code": "x", "after": [{"job": "7"}]}), vec![], "after"),
        (
            json!({"code": "x", "after": [{"job": KEY.job_id(sandrun_core::pool::JobNumber(1)), "into": "../x"}]}),
            vec![],
            "into",
        ),
        (json!({"manifest": {"colour": 1}}), vec!["main.py"], "colour"),
        (json!({}), vec!["other.txt"], "entrypoint"),
        (json!({}), vec!["main.py", "main.py"], "one name"),
        (json!({}), vec!["../main.py"], "files"),
    ] {
        let error = check(fields.clone(), &names).unwrap_err();
        assert!(error.message.contains(word), "{fields}: {}", error.message);
        assert_eq!(error.status, axum::http::StatusCode::BAD_REQUEST);
    }
}
