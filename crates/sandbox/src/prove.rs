//! Proves the layers at the start: probe jobs try to get past each of them.

use std::fs;
use std::io;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::net::SocketAddrUnix;
use tempfile::TempDir;

use crate::config::GRACE;
use crate::launch::Launcher;
use crate::session::{self, Session};
use crate::supervisor::Finding;
use crate::sys::WaitStatus;
use crate::wire::{End, ProbePlan, Program, Ready, Spec};
use crate::{CancelHandle, Layer, Layers, Limits, MemoryControl, RunError, StartError};

/// Namespaces, as /proc/self/ns names them.
const NAMESPACES: [&str; 7] = ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"];

/// Runs the probes; the layers that hold. A required layer that does not is an error.
pub(crate) fn layers(launcher: &Launcher, ready: &Ready) -> Result<Layers, StartError> {
    let failed = |error: io::Error| StartError::Probe(RunError::Internal(error.to_string()));
    let empty = TempDir::new().map_err(failed)?;
    let canary = tempfile::NamedTempFile::new().map_err(failed)?;
    let (name, _listener) = abstract_listener().map_err(failed)?;
    let limits = Limits {
        wall: Duration::from_secs(20),
        memory_bytes: 64 << 20,
        tmpfs_bytes: 1 << 20,
        processes: 8,
        open_files: 64,
        ..Limits::default()
    };
    let run = |plan: ProbePlan| {
        let spec = Spec {
            program: Program::Probe(plan),
            env: Vec::new(),
            limits,
            input_bytes: 0,
            input_entries: 0,
            det: None,
            environment: None,
        };
        let cancel = CancelHandle::new().map_err(failed)?;
        session::run(
            launcher,
            &spec,
            empty.path(),
            &(),
            &mut |_| Ok(()),
            &cancel,
            GRACE,
        )
        .map_err(StartError::Probe)
    };
    let namespaces = NAMESPACES.map(|name| {
        let link = fs::read_link(format!("/proc/self/ns/{name}")).unwrap_or_default();
        (name.to_owned(), link.to_string_lossy().into_owned())
    });
    let session = run(ProbePlan::Layers {
        canary: canary.path().to_string_lossy().into_owned(),
        abstract_socket: name,
        namespaces: namespaces.to_vec(),
        limits,
    })?;
    let on = held(&session)?;
    memory_holds(ready.memory, &run(ProbePlan::Memory)?)?;
    processes_hold(limits.processes, &run(ProbePlan::Processes)?)?;
    Ok(Layers {
        on,
        memory: ready.memory,
        processes: ready.processes,
    })
}

/// Something of the host that a job must not reach.
fn abstract_listener() -> io::Result<(String, UnixListener)> {
    use std::os::linux::net::SocketAddrExt as _;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "sandrun-canary-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    // Checked for length as the probe will use it.
    SocketAddrUnix::new_abstract_name(name.as_bytes())?;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name)?;
    Ok((name, UnixListener::bind_addr(&address)?))
}

fn held(session: &Session) -> Result<Vec<Layer>, StartError> {
    if let End::Refused(what) = &session.ended.end {
        return Err(StartError::Prepare(what.clone()));
    }
    let findings: Vec<Finding> = serde_json::from_slice(&session.stdout).map_err(|error| {
        let end = format!(
            "the probe said nothing ({error}); it ended with {:?}",
            session.ended.end
        );
        StartError::Probe(RunError::Internal(end))
    })?;
    let mut on = Vec::new();
    for layer in Layer::ALL {
        let breach = findings
            .iter()
            .find(|finding| finding.layer == layer)
            .map(|finding| finding.breach.as_str());
        match breach {
            Some("") if session.ended.layers.has(layer) => on.push(layer),
            // The kernel has none, and says so; it was not claimed either.
            Some(_) | None if !layer.is_required() && !session.ended.layers.has(layer) => {}
            Some(detail) => {
                return Err(StartError::LayerFailed {
                    layer,
                    detail: detail.to_owned(),
                });
            }
            None => {
                return Err(StartError::LayerFailed {
                    layer,
                    detail: "the probe did not try it".to_owned(),
                });
            }
        }
    }
    Ok(on)
}

fn memory_holds(control: MemoryControl, session: &Session) -> Result<(), StartError> {
    let expected = match control {
        MemoryControl::CgroupV1 | MemoryControl::CgroupV2 => matches!(session.ended.end, End::Memory),
        // Its allocation failed, or the supervisor saw it first.
        MemoryControl::Rlimit => matches!(session.ended.end, End::Memory | End::Exit(WaitStatus::Code(3))),
    };
    let detail = || {
        format!(
            "the memory limit did not hold: the probe ended with {:?}",
            session.ended.end
        )
    };
    if expected {
        Ok(())
    } else {
        Err(StartError::LayerFailed {
            layer: Layer::Rlimits,
            detail: detail(),
        })
    }
}

fn processes_hold(limit: u32, session: &Session) -> Result<(), StartError> {
    let text = String::from_utf8_lossy(&session.stdout);
    // The probe itself is one of them.
    match text.parse::<u32>() {
        Ok(count) if count < limit => Ok(()),
        Ok(_) | Err(_) => {
            let detail = format!("the process limit did not hold: the probe started {text:?} of {limit}");
            Err(StartError::LayerFailed {
                layer: Layer::Rlimits,
                detail,
            })
        }
    }
}
