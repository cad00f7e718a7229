use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(text.as_bytes())
}

fn path(text: &str) -> BundlePath {
    BundlePath::parse(text).unwrap()
}

fn refusal(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn reads_every_field() {
    let manifest = parse(
        r#"{"entrypoint":"./src/a.py","interpreter":"python3","environment":"ml-basic","args":["-x","1"],
            "env":{"A_1":"b"},"outputs":["*.png","out/"],"class":"native","requirements":"requirements.txt",
            "timeout":3600,"memory_mb":64,"cpu_seconds":5,
            "gpu":{"required":true,"device_id":0,"min_vram_gb":8,"cuda_version":"11.8","compute_capability":7.5}}"#,
    )
    .unwrap();
    assert_eq!(
        String::from_utf8(manifest.canonical_bytes()).unwrap(),
        r#"{"args":["-x","1"],"class":"native","cpu_seconds":5,"entrypoint":"src/a.py","env":{"A_1":"b"},"environment":"ml-basic","gpu":{"compute_capability":"7.5","cuda_version":"11.8","device_id":0,"min_vram_gb":8,"required":true},"interpreter":"python3","memory_mb":64,"outputs":["*.png","out/"],"requirements":"requirements.txt","timeout":3600}"#
    );
}

#[test]
fn what_is_empty_counts_as_not_given() {
    let sparse = parse(
        r#"{"entrypoint":"","interpreter":"","args":[],"env":{},"outputs":[],"gpu":null,"timeout":null}"#,
    );
    assert_eq!(sparse, Ok(Manifest::default()));
    assert_eq!(Manifest::default().canonical_bytes(), b"{}");
}

#[test]
fn an_unknown_field_is_named() {
    assert!(refusal(r#"{"entrypont":"main.py"}"#).contains("\"entrypont\""));
    assert!(refusal(r#"{"gpu":{"vram":1}}"#).contains("\"gpu.vram\""));
}

#[test]
fn a_bad_value_names_its_field_and_says_what_is_expected() {
    for (text, field, words) in [
        (r#"{"timeout":"5"}"#, "timeout", "whole number"),
        (r#"{"timeout":3601}"#, "timeout", "1 to 3600"),
        (r#"{"timeout":0}"#, "timeout", "1 to 3600"),
        (r#"{"timeout":1.5}"#, "timeout", "1.5"),
        (r#"{"memory_mb":-1}"#, "memory_mb", "-1"),
        (r#"{"args":"-x"}"#, "args", "array"),
        (r#"{"args":[1]}"#, "args", "text"),
        (r#"{"args":["a\u0000b"]}"#, "args", "NUL"),
        (r#"{"env":{"A":1}}"#, "env", "A is a number"),
        (r#"{"env":{"1A":"x"}}"#, "env", "1A"),
        (r#"{"env":{"LD_PRELOAD":"/x.so"}}"#, "env", "LD_PRELOAD"),
        (
            r#"{"entrypoint":"../../bin/sh"}"#,
            "entrypoint",
            "leaves the bundle",
        ),
        (r#"{"entrypoint":"/bin/sh"}"#, "entrypoint", "absolute"),
        (
            r#"{"requirements":"../r.txt"}"#,
            "requirements",
            "leaves the bundle",
        ),
        (
            r#"{"outputs":["../../etc/*"]}"#,
            "outputs",
            "leaves the job's folder",
        ),
        (r#"{"interpreter":"go run"}"#, "interpreter", "python3"),
        (
            r#"{"interpreter":"../../bin/sh"}"#,
            "interpreter",
            "no interpreter",
        ),
        (r#"{"class":"fast"}"#, "class", "native"),
        (r#"{"gpu":true}"#, "gpu", "object"),
        (r#"{"gpu":{"min_vram_gb":"8"}}"#, "gpu", "min_vram_gb"),
    ] {
        let refusal = refusal(text);
        assert!(
            refusal.contains(&format!("\"{field}\"")) && refusal.contains(words),
            "{text}: {refusal}"
        );
    }
}

#[test]
fn what_is_no_manifest_at_all_is_refused() {
    assert!(matches!(parse("{"), Err(ManifestError::NotJson(_))));
    assert!(matches!(parse("[]"), Err(ManifestError::NotAnObject("an array"))));
    assert!(matches!(
        parse(&" ".repeat(300_000)),
        Err(ManifestError::TooLong(_))
    ));
    let million = format!(r#"{{"args":[{}"x"]}}"#, r#""x","#.repeat(50_000));
    assert!(refusal(&million).contains("50001 arguments"));
    assert!(matches!(
        parse(&"[".repeat(100_000)),
        Err(ManifestError::NotJson(_))
    ));
}

#[test]
fn finds_the_entry() {
    let files = [
        path("run.sh"),
        path("index.js"),
        path("tools/prog"),
        path("a.R"),
        path("deep/main.py"),
    ];
    let entry = |text: &str| parse(text).unwrap().entry(&files);
    let expect = |name: &str, interpreter| {
        Ok(Entry {
            entrypoint: path(name),
            interpreter,
        })
    };
    assert_eq!(entry("{}"), expect("index.js", Interpreter::Node));
    assert_eq!(
        entry(r#"{"entrypoint":"a.R"}"#),
        expect("a.R", Interpreter::Rscript)
    );
    assert_eq!(
        entry(r#"{"entrypoint":"tools/prog"}"#),
        expect("tools/prog", Interpreter::Itself)
    );
    assert_eq!(
        entry(r#"{"entrypoint":"tools/prog","interpreter":"./tools/prog"}"#),
        expect("tools/prog", Interpreter::Itself)
    );
    assert_eq!(
        entry(r#"{"entrypoint":"run.sh","interpreter":"node"}"#),
        expect("run.sh", Interpreter::Node)
    );
    assert_eq!(
        entry(r#"{"entrypoint":"run.sh","interpreter":"self"}"#),
        expect("run.sh", Interpreter::Itself)
    );
    let missing = entry(r#"{"entrypoint":"main.py"}"#).unwrap_err();
    assert!(
        missing.to_string().contains("did you mean deep/main.py"),
        "{missing}"
    );
    assert!(matches!(
        entry(r#"{"requirements":"r.txt"}"#),
        Err(ManifestError::MissingFile {
            field: "requirements",
            ..
        })
    ));
    assert_eq!(
        Manifest::default().entry(&files[2..]),
        Err(ManifestError::NoEntrypoint)
    );
}

prop_compose! {
    fn manifests()(
        args in prop::collection::vec("[^\0]{0,8}", 0..4),
        env in prop::collection::btree_map("[A-Z_][A-Z0-9_]{0,6}", "[^\0]{0,8}", 0..4),
        entrypoint in prop::option::of("[a-z]{1,5}(/[a-zü .]{1,5}x){0,2}\\.(py|js|sh|bin)"),
        class in prop::option::of(prop_oneof![
            Just(ClassRequest::Native), Just(ClassRequest::Det), Just(ClassRequest::DetSoft), any::<[u8; 32]>().prop_map(|id| ClassRequest::Exact(crate::ClassId(id))),
        ]),
        numbers in (prop::option::of(1..=3600u32), prop::option::of(1..u32::MAX), prop::option::of(1..u32::MAX)),
        interpreter in prop::option::of(prop::sample::select(Interpreter::PROGRAMS.to_vec())),
        outputs in prop::collection::vec("[a-z*]{1,5}/?", 0..3),
        gpu in prop::option::of((any::<bool>(), prop::option::of(0..9u32), prop::option::of((0..99u16, 0..9u16)))),
    ) -> Manifest {
        Manifest {
            args, env, class, interpreter,
            entrypoint: entrypoint.map(|text| path(&text)),
            outputs: OutputPatterns::parse(outputs).unwrap(),
            timeout: numbers.0, memory_mb: numbers.1, cpu_seconds: numbers.2,
            gpu: gpu.map(|(required, device_id, version)| GpuRequirement {
                required, device_id,
                cuda_version: version.map(|(major, minor)| DottedVersion { major, minor }),
                ..GpuRequirement::default()
            }),
            environment: None,
            requirements: None,
        }
    }
}

proptest! {
    #[test]
    fn canonical_bytes_parse_to_the_same_manifest(manifest in manifests()) {
        let bytes = manifest.canonical_bytes();
        let again = Manifest::parse(&bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(&again, &manifest);
        prop_assert_eq!(again.digest(), manifest.digest());
    }

    #[test]
    fn parsing_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), json in "[\\[\\]{}\":,a-z0-9.-]{0,60}") {
        let _ = Manifest::parse(&bytes);
        let _ = Manifest::parse(json.as_bytes());
    }
}
