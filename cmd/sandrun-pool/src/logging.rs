//! Logs: to standard error, structured on request. Services log at `info`, other commands at `warn`; `RUST_LOG` and `-v`
//! say otherwise.

mod json;

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::JsonFields;

use crate::cli::{Global, LogFormat};

/// Installs the subscriber for the process.
pub(crate) fn start(global: &Global, service: bool) {
    let level = match (global.verbose, service) {
        (0, false) => "error",
        (0, true) => "info",
        // a prefix: all crates whose names begin with it
        (1, _) => "info,sandrun=debug,pool_manager=debug,node_agent=debug,client_sdk=debug",
        (2.., _) => "debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // it would say on standard error that standard error takes no more, and panic: a full disk or a reader that has
        // gone must not end a service's thread
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    // whoever asks for JSON can read nothing else
    if global.json || global.log_format == LogFormat::Json {
        builder
            .fmt_fields(JsonFields::new())
            .event_format(json::Flat)
            .init();
    } else {
        builder.compact().init();
    }
}
