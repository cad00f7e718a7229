//! What the tests share: one sandbox a program, and jobs from a few words.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use sandrun_sandbox::{
    CancelHandle, CgroupPolicy, Class, Limits, OutputSink, RunError, RunReport, RunRequest, Sandbox,
    SandboxConfig,
};
use sandrun_types::{BundlePath, ContentDigest, Entry, Interpreter, Manifest, TraceLeaf, TraceReader};

/// The launcher as a program.
pub const LAUNCHER: &str = env!("CARGO_BIN_EXE_sandrun-supervisor");

/// One sandbox for all tests of a program, as a service has it.
pub static SANDBOX: LazyLock<Sandbox> = LazyLock::new(|| start(CgroupPolicy::Auto));

/// Starts a sandbox.
pub fn start(cgroups: CgroupPolicy) -> Sandbox {
    // Another user's copy of it, see tests/life.rs.
    let launcher = std::env::var_os("SANDRUN_TEST_LAUNCHER").unwrap_or_else(|| LAUNCHER.into());
    let config = SandboxConfig {
        cgroups,
        ..SandboxConfig::new(vec![launcher])
    };
    Sandbox::start(config).expect("the sandbox starts")
}

/// A class, or what a machine whose processor cannot mask CPUID has instead.
pub fn here(class: Class) -> Class {
    match class {
        Class::Det => Class::deterministic_here(),
        Class::Native | Class::DetSoft => class,
    }
}

/// A job in words.
pub struct Job {
    pub files: Vec<(String, Vec<u8>)>,
    pub interpreter: Interpreter,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub limits: Limits,
    pub outputs: &'static str,
    pub environment: Option<ContentDigest>,
    pub class: Class,
}

/// An ended job, its outputs still there.
pub struct Done {
    pub report: RunReport,
    pub outputs: tempfile::TempDir,
    pub trace: tempfile::NamedTempFile,
}

impl Done {
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.report.stdout).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.report.stderr).into_owned()
    }

    pub fn output(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.outputs.path().join(name)).expect("the output is there")
    }

    /// The trace as it was written, checked.
    pub fn trace(&self) -> Vec<TraceLeaf> {
        let file = std::fs::File::open(self.trace.path()).expect("the trace is there");
        let mut reader = TraceReader::new(std::io::BufReader::new(file)).expect("it is a trace");
        let leaves = reader.by_ref().collect::<Result<_, _>>().expect("it is whole");
        assert_eq!(reader.root(), self.report.trace_root);
        leaves
    }

    pub fn output_names(&self) -> Vec<String> {
        self.report
            .outputs
            .iter()
            .map(|file| file.path.to_string())
            .collect()
    }
}

/// Runs a job of class `det` twice: its end, after it was the same both times.
pub fn same(job: Job) -> Done {
    let job = job.class(Class::Det).limits(|limits| limits.processes = 64);
    let (one, two) = (job.run(), job.run());
    assert_eq!(one.stdout(), two.stdout());
    assert_eq!(one.stderr(), two.stderr());
    assert_eq!(one.report.trace_root, two.report.trace_root, "{}", one.stdout());
    two
}

impl Job {
    pub fn new(interpreter: Interpreter, name: &str, text: impl AsRef<[u8]>) -> Self {
        Self {
            files: vec![(name.to_owned(), text.as_ref().to_vec())],
            interpreter,
            args: Vec::new(),
            env: BTreeMap::new(),
            limits: Limits {
                wall: Duration::from_secs(20),
                ..Limits::default()
            },
            outputs: "[]",
            environment: None,
            class: Class::Native,
        }
    }

    pub fn python(text: &str) -> Self {
        Self::new(Interpreter::Python3, "main.py", text)
    }

    pub fn bash(text: &str) -> Self {
        Self::new(Interpreter::Bash, "run.sh", text)
    }

    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    pub fn outputs(mut self, patterns: &'static str) -> Self {
        self.outputs = patterns;
        self
    }

    pub fn class(mut self, class: Class) -> Self {
        self.class = here(class);
        self
    }

    pub fn run(&self) -> Done {
        self.run_in(&SANDBOX).expect("the job runs")
    }

    pub fn run_in(&self, sandbox: &Sandbox) -> Result<Done, RunError> {
        let cancel = CancelHandle::new().expect("a handle");
        self.run_with(sandbox, &(), &cancel)
    }

    pub fn run_with(
        &self,
        sandbox: &Sandbox,
        sink: &dyn OutputSink,
        cancel: &CancelHandle,
    ) -> Result<Done, RunError> {
        let workspace = tempfile::tempdir().expect("a directory");
        let trace = tempfile::NamedTempFile::new().expect("a file");
        for (name, bytes) in &self.files {
            write(&workspace.path().join(name), bytes);
        }
        let outputs = tempfile::tempdir().expect("a directory");
        let manifest = format!(r#"{{"outputs":{}}}"#, self.outputs);
        let request = RunRequest {
            workspace: workspace.path().to_path_buf(),
            outputs_dir: outputs.path().to_path_buf(),
            entry: Entry {
                entrypoint: BundlePath::parse(&self.files[0].0).expect("a name"),
                interpreter: self.interpreter,
            },
            args: self.args.clone(),
            env: self.env.clone(),
            limits: self.limits,
            outputs: Manifest::parse(manifest.as_bytes()).expect("patterns").outputs,
            class: self.class,
            environment: self.environment,
            trace: Some(trace.path().to_owned()),
        };
        let report = sandbox.run(&request, sink, cancel)?;
        Ok(Done {
            report,
            outputs,
            trace,
        })
    }
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    std::fs::write(path, bytes).expect("a file");
}
