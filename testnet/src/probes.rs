//! The programs of `testnet/probes`, which print whatever differs between two runs. Owns how they become code that can be
//! submitted: compiled ones are compiled, NumPy is taken from a wheel. Never runs one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

/// Scripts, which run as they are.
const SCRIPTS: [(&str, &str); 5] = [
    ("entropy.py", include_str!("../probes/entropy.py")),
    ("threads.py", include_str!("../probes/threads.py")),
    ("processes.py", include_str!("../probes/processes.py")),
    ("workers.js", include_str!("../probes/workers.js")),
    ("background.sh", include_str!("../probes/background.sh")),
];

/// Sources, with the compilers that make programs of them.
const SOURCES: [(&str, &str, Compiler); 3] = [
    (
        "goroutines.go",
        include_str!("../probes/goroutines.go"),
        Compiler::Go,
    ),
    ("static.c", include_str!("../probes/static.c"), Compiler::C),
    ("static.rs", include_str!("../probes/static.rs"), Compiler::Rust),
];

/// The wheel of NumPy: the last release of the line that the oldest supported interpreter has.
const NUMPY: &str = "numpy==1.26.4";

/// A program, or why it is not to be had here.
#[derive(Debug)]
pub struct Probe {
    /// The name of its source.
    pub name: &'static str,
    /// File or directory of code; in words why there is none.
    pub code: Result<PathBuf, String>,
}

#[derive(Debug, Clone, Copy)]
enum Compiler {
    Go,
    C,
    Rust,
}

impl Compiler {
    fn command(self, source: &Path, program: &Path, directory: &Path) -> Command {
        let (name, arguments): (&str, &[&str]) = match self {
            Self::Go => ("go", &["build"]),
            Self::C => ("gcc", &["-O2", "-static", "-pthread"]),
            Self::Rust => ("rustc", &["-O", "-C", "target-feature=+crt-static"]),
        };
        let beside = Path::new("/usr/local/go/bin").join(name);
        let mut command = Command::new(if beside.is_file() { beside } else { name.into() });
        command.args(arguments).arg("-o").arg(program).arg(source);
        command
            .env("CGO_ENABLED", "0")
            .env("GOCACHE", directory.join("go-cache"));
        command
    }
}

/// Writes the programs into `directory`; what has been downloaded or compiled there before is taken again.
///
/// # Errors
/// A file that cannot be written.
pub fn lay_out(directory: &Path) -> anyhow::Result<Vec<Probe>> {
    let written = |name: &'static str, text: &str| -> anyhow::Result<PathBuf> {
        let path = directory.join(name);
        std::fs::create_dir_all(directory)?;
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    };
    let mut probes = Vec::new();
    for (name, text) in SCRIPTS {
        let code = Ok(written(name, text)?);
        probes.push(Probe { name, code });
    }
    for (name, text, compiler) in SOURCES {
        let source = written(name, text)?;
        let program = directory.join(name.replace('.', "-"));
        let made = if program.is_file() {
            Ok(())
        } else {
            succeeds(compiler.command(&source, &program, directory))
        };
        probes.push(Probe {
            name,
            code: made.map(|()| program),
        });
    }
    let text = include_str!("../probes/numeric.py");
    probes.push(Probe {
        name: "numeric.py",
        code: numpy(directory, text),
    });
    Ok(probes)
}

/// A directory with NumPy and the program that uses it.
fn numpy(directory: &Path, text: &str) -> Result<PathBuf, String> {
    let code = directory.join("numeric");
    let words = |error: std::io::Error| error.to_string();
    if !code.join("numpy").is_dir() {
        let wheels = directory.join("wheels");
        let mut download = Command::new("python3");
        download.args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
        ]);
        download
            .args(["--python-version", "3.11", NUMPY, "--dest"])
            .arg(&wheels);
        succeeds(download)?;
        let wheel = std::fs::read_dir(&wheels)
            .map_err(words)?
            .next()
            .ok_or("pip has downloaded nothing")?
            .map_err(words)?;
        let mut unpack = Command::new("python3");
        unpack.args(["-m", "zipfile", "-e"]).arg(wheel.path()).arg(&code);
        succeeds(unpack)?;
    }
    std::fs::write(code.join("main.py"), text).map_err(words)?;
    Ok(code)
}

fn succeeds(mut command: Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{name}: {}", said.lines().last().unwrap_or("it failed")))
}
