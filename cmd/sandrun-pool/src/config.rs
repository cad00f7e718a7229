//! The configuration file: defaults below flags and environment. Owns where it is looked for and how its keys become
//! defaults of arguments; every long flag is a key, in the top level for all commands or in a table named as a command.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Command;

use crate::exit::{Status, WithStatus as _};

/// Environment variable that names the file.
pub(crate) const CONFIG_ENV: &str = "SANDRUN_CONFIG";

/// The directory where sandrun-pool keeps its state: `SANDRUN_HOME`, else `~/.sandrun-pool`.
pub(crate) fn home() -> PathBuf {
    if let Some(home) = std::env::var_os("SANDRUN_HOME") {
        return PathBuf::from(home);
    }
    std::env::var_os("HOME").map_or_else(
        || PathBuf::from(".sandrun-pool"),
        |home| Path::new(&home).join(".sandrun-pool"),
    )
}

/// Makes the file's values the defaults of `command`'s arguments.
pub(crate) fn apply(command: Command, arguments: &[std::ffi::OsString]) -> anyhow::Result<Command> {
    let (path, named) = match file(arguments) {
        Some(path) => (path, true),
        None => (home().join("config.toml"), false),
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => return Ok(command),
        Err(error) => {
            return Err(error)
                .context(format!("configuration file {}", path.display()))
                .status(Status::BadInput);
        }
    };
    let values: toml::Table = toml::from_str(&text)
        .context(format!("configuration file {}", path.display()))
        .status(Status::BadInput)?;
    merge(command, &values)
        .context(format!("configuration file {}", path.display()))
        .status(Status::BadInput)
}

/// `--config FILE` or the environment: needed before the arguments are parsed.
fn file(arguments: &[std::ffi::OsString]) -> Option<PathBuf> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy();
        if text == "--config" {
            return arguments.next().map(PathBuf::from);
        }
        if let Some(path) = text.strip_prefix("--config=") {
            return Some(PathBuf::from(path));
        }
    }
    std::env::var_os(CONFIG_ENV).map(PathBuf::from)
}

fn merge(mut command: Command, values: &toml::Table) -> anyhow::Result<Command> {
    let (tables, common): (Vec<_>, Vec<_>) = values.iter().partition(|(_, value)| value.is_table());
    for (key, value) in common {
        command = set(command, None, key, value)?;
    }
    // a command's own table comes after, so that it wins over the top level
    for (name, table) in tables {
        let known = command.find_subcommand(name).is_some();
        anyhow::ensure!(known, "[{name}] is not a command; see `sandrun-pool --help`");
        for (key, value) in table.as_table().into_iter().flatten() {
            command = set(command, Some(name), key, value)?;
        }
    }
    Ok(command)
}

/// Sets one default, in one command or in all that have the argument.
fn set(mut command: Command, only: Option<&str>, key: &str, value: &toml::Value) -> anyhow::Result<Command> {
    let text = plain(key, value)?;
    let names: Vec<String> = command
        .get_subcommands()
        .map(|it| it.get_name().to_owned())
        .collect();
    let mut known = false;
    for name in names
        .iter()
        .filter(|name| only.is_none_or(|only| only == name.as_str()))
    {
        let id = command
            .find_subcommand(name)
            .and_then(|it| {
                it.get_arguments()
                    .find(|argument| argument.get_long() == Some(key))
            })
            .map(|argument| argument.get_id().clone());
        if let Some(id) = id {
            known = true;
            let text = text.clone();
            command =
                command.mut_subcommand(name, |it| it.mut_arg(id, |argument| argument.default_value(text)));
        }
    }
    anyhow::ensure!(
        known,
        "`{key}` is not an option of {}",
        only.unwrap_or("any command")
    );
    Ok(command)
}

/// A value as it would stand on the command line.
fn plain(key: &str, value: &toml::Value) -> anyhow::Result<String> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        toml::Value::Boolean(flag) => Ok(flag.to_string()),
        toml::Value::Datetime(time) => Ok(time.to_string()),
        toml::Value::Array(_) | toml::Value::Table(_) => {
            anyhow::bail!("`{key}` must be a text, a number or true/false")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    fn command() -> Command {
        Command::new("x")
            .subcommand(
                Command::new("agent").arg(Arg::new("rpc").long("blockchain-rpc").env("NO_SUCH_ENV_RPC")),
            )
            .subcommand(Command::new("pool").arg(Arg::new("rpc").long("blockchain-rpc")))
    }

    fn rpc(values: &str, arguments: &[&str]) -> Option<String> {
        let command = merge(command(), &toml::from_str(values).unwrap()).unwrap();
        let matches = command.try_get_matches_from(arguments).unwrap();
        matches.subcommand().unwrap().1.get_one::<String>("rpc").cloned()
    }

    #[test]
    fn flags_win_over_the_file_and_a_table_concerns_its_command() {
        let file = "blockchain-rpc = \"http://all\"\n[pool]\nblockchain-rpc = \"http://pool\"\n";
        assert_eq!(rpc(file, &["x", "agent"]).as_deref(), Some("http://all"));
        assert_eq!(rpc(file, &["x", "pool"]).as_deref(), Some("http://pool"));
        assert_eq!(
            rpc(file, &["x", "agent", "--blockchain-rpc", "http://flag"]).as_deref(),
            Some("http://flag")
        );
    }

    #[test]
    fn unknown_keys_are_named() {
        let error = merge(command(), &toml::from_str("colour = 1").unwrap())
            .unwrap_err()
            .to_string();
        assert!(error.contains("colour"), "{error}");
        let error = merge(command(), &toml::from_str("[nothing]\na = 1").unwrap())
            .unwrap_err()
            .to_string();
        assert!(error.contains("nothing"), "{error}");
    }
}
