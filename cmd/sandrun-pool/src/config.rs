//! The configuration file: defaults below flags and environment. Owns where it is looked for, how its keys become
//! defaults of arguments, and the names of variables; every long flag is a key, in the top level for all commands or in a
//! table named as a command.

use std::any::TypeId;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::error::{ContextKind, ContextValue};
use clap::{ArgAction, Command, Id};

use crate::commands::node::JSON_KEYS;
use crate::exit::{Status, WithStatus as _};
use crate::files::read_small;

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

/// A configuration file that was read: its values by option, as they would stand on the command line.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    values: Vec<(String, String)>,
}

impl ConfigFile {
    /// Says that a value which clap does not take is from this file, if it is.
    pub(crate) fn blame(&self, error: &clap::Error) -> Option<String> {
        let context = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.as_str()),
            _ => None,
        };
        let argument = context(ContextKind::InvalidArg)?;
        let option = argument.trim_start_matches("--").split([' ', '=']).next()?;
        let value = context(ContextKind::InvalidValue)?;
        let is_ours = self
            .values
            .iter()
            .any(|(key, text)| key == option && text == value);
        is_ours.then(|| format!("the value is from the configuration file {}", self.path.display()))
    }
}

/// Lets every long option come from the environment: what has no variable of its own gets `SANDRUN_` and its name, and its
/// command's before it where another option has that variable.
pub(crate) fn with_variables(command: Command) -> Command {
    let taken = variables(&command);
    name_variables(command, None, &taken)
}

/// The variables that options of `command` and its commands have.
fn variables(command: &Command) -> BTreeSet<OsString> {
    let own = command
        .get_arguments()
        .filter_map(|it| it.get_env())
        .map(Into::into);
    own.chain(command.get_subcommands().flat_map(variables)).collect()
}

fn name_variables(command: Command, within: Option<&str>, taken: &BTreeSet<OsString>) -> Command {
    let upper = |name: &str| name.replace('-', "_").to_uppercase();
    let command = command.mut_args(|argument| {
        let is_switch = matches!(
            argument.get_action(),
            ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
        );
        match argument.get_long() {
            Some(option) if !is_switch && argument.get_env().is_none() => {
                let mut name = format!("SANDRUN_{}", upper(option));
                let is_taken = taken.contains(OsStr::new(&name));
                if let Some(within) = within.filter(|_| is_taken) {
                    name = format!("SANDRUN_{}_{}", upper(within), upper(option));
                }
                // named once for each option of the program
                let name: &'static str = Box::leak(name.into_boxed_str());
                argument.env(name).hide_env(!is_taken)
            }
            Some(_) | None => argument,
        }
    });
    command.mut_subcommands(|it| {
        let within = it.get_name().to_owned();
        name_variables(it, Some(&within), taken)
    })
}

fn text_of(bytes: Vec<u8>) -> std::io::Result<String> {
    String::from_utf8(bytes).map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))
}

/// Makes the file's values the defaults of `command`'s arguments; `None` where there is no file.
pub(crate) fn apply(
    command: Command,
    arguments: &[OsString],
) -> anyhow::Result<(Command, Option<ConfigFile>)> {
    let (path, named) = match file(arguments) {
        Some(path) => (path, true),
        None => (home().join("config.toml"), false),
    };
    let subject = || format!("configuration file {}", path.display());
    let text = match read_small(&path).and_then(text_of) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => return Ok((command, None)),
        Err(error) => {
            return Err(error)
                .with_context(|| format!("{} can't be read: is --config ({CONFIG_ENV}) right?", subject()))
                .status(Status::BadInput);
        }
    };
    let table = if text.trim_start().starts_with('{') {
        node_json(&text)
    } else {
        toml::from_str(&text).map_err(anyhow::Error::from)
    };
    let table = table.with_context(subject).status(Status::BadInput)?;
    let mut values = Vec::new();
    let folder = path.parent().filter(|_| !text.trim_start().starts_with('{'));
    let command = merge(command, &table, folder, &mut values)
        .with_context(subject)
        .status(Status::BadInput)?;
    Ok((command, Some(ConfigFile { path, values })))
}

/// A JSON file is a node's, with the names that nodes' files have: it becomes the table `[node]`.
fn node_json(text: &str) -> anyhow::Result<toml::Table> {
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)?;
    let mut node = toml::Table::new();
    for (key, value) in fields {
        let option = JSON_KEYS
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, option)| *option);
        let Some(option) = option else {
            let known = JSON_KEYS.map(|(name, _)| name).join(", ");
            anyhow::bail!("`{key}` is no setting of a node; the settings are: {known}");
        };
        let text = match value {
            serde_json::Value::Null => continue,
            serde_json::Value::String(text) => text,
            value @ (serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::Array(_)
            | serde_json::Value::Object(_)) => value.to_string(),
        };
        node.insert(option.to_owned(), toml::Value::String(text));
    }
    let mut table = toml::Table::new();
    table.insert("node".to_owned(), toml::Value::Table(node));
    Ok(table)
}

/// `--config FILE` or the environment: needed before the arguments are parsed.
fn file(arguments: &[OsString]) -> Option<PathBuf> {
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

/// Paths are taken from `folder`, where there is one; else from where the program is run.
fn merge(
    mut command: Command,
    table: &toml::Table,
    folder: Option<&Path>,
    values: &mut Vec<(String, String)>,
) -> anyhow::Result<Command> {
    let (tables, common): (Vec<_>, Vec<_>) = table.iter().partition(|(_, value)| value.is_table());
    for (key, value) in common {
        command = set(command, None, (key, value, folder), values)?;
    }
    // a command's own table comes after, so that it wins over the top level
    for (name, table) in tables {
        let known = command.find_subcommand(name).is_some();
        anyhow::ensure!(known, "[{name}] is not a command; see `sandrun-pool --help`");
        for (key, value) in table.as_table().into_iter().flatten() {
            command = set(command, Some(name), (key, value, folder), values)?;
        }
    }
    Ok(command)
}

/// Sets one default: in one command, or in all that have the option and in the program's own.
fn set(
    mut command: Command,
    only: Option<&str>,
    (key, value, folder): (&str, &toml::Value, Option<&Path>),
    values: &mut Vec<(String, String)>,
) -> anyhow::Result<Command> {
    let texts = plain(key, value)?;
    values.extend(texts.iter().map(|text| (key.to_owned(), text.clone())));
    let mut known = false;
    if only.is_none()
        && let Some(id) = option(&command, key)
    {
        known = true;
        command = default(command, id, &texts, folder);
    }
    let names: Vec<String> = command
        .get_subcommands()
        .map(|it| it.get_name().to_owned())
        .filter(|name| only.is_none_or(|only| only == name))
        .collect();
    for name in names {
        if let Some(id) = command.find_subcommand(&name).and_then(|it| option(it, key)) {
            known = true;
            command = command.mut_subcommand(name, |it| default(it, id, &texts, folder));
        } else if only.is_some()
            && let Some(common) = common(&command, key)
        {
            // an option of every command gets a value in this one alone
            known = true;
            let id = common.get_id().clone();
            command = command.mut_subcommand(name, |it| default(it.arg(common), id, &texts, folder));
        }
    }
    anyhow::ensure!(
        known,
        "`{key}` is not an option of {}: remove it; `sandrun-pool {} --help` lists the options",
        only.unwrap_or("any command"),
        only.unwrap_or("COMMAND")
    );
    Ok(command)
}

/// The argument of a command's long option. The file can't name another file.
fn option(command: &Command, key: &str) -> Option<Id> {
    let mut arguments = command.get_arguments();
    let found = arguments.find(|argument| argument.get_long() == Some(key) && key != "config")?;
    Some(found.get_id().clone())
}

/// An option of every command.
fn common(command: &Command, key: &str) -> Option<clap::Arg> {
    let id = option(command, key)?;
    let mut arguments = command.get_arguments();
    arguments
        .find(|argument| *argument.get_id() == id && argument.is_global_set())
        .cloned()
}

fn default(command: Command, id: Id, texts: &[String], folder: Option<&Path>) -> Command {
    // an argument that has a value need not be given
    command.mut_arg(id, |argument| {
        let is_path = argument.get_value_parser().type_id() == TypeId::of::<PathBuf>();
        let value = |text: &String| match folder.filter(|_| is_path && text != "-") {
            Some(folder) => folder.join(text).into_os_string(),
            None => OsString::from(text),
        };
        let values: Vec<OsString> = texts.iter().map(value).collect();
        argument.default_values_os(values).required(false)
    })
}

/// A value as it would stand on the command line; a list gives several.
fn plain(key: &str, value: &toml::Value) -> anyhow::Result<Vec<String>> {
    let one = match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(flag) => flag.to_string(),
        toml::Value::Datetime(time) => time.to_string(),
        toml::Value::Array(items) => {
            let texts: Vec<Vec<String>> = items.iter().map(|it| plain(key, it)).collect::<Result<_, _>>()?;
            return Ok(texts.concat());
        }
        toml::Value::Table(_) => {
            anyhow::bail!("`{key}` must be a text, a number, true/false or a list of them")
        }
    };
    Ok(vec![one])
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
        let command = merge(command(), &toml::from_str(values).unwrap(), None, &mut Vec::new()).unwrap();
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
    fn paths_of_the_file_are_taken_from_its_folder() {
        let key = |text: &str| {
            let table = toml::from_str(&format!("key = \"{text}\"")).unwrap();
            let command = <crate::cli::Cli as clap::CommandFactory>::command();
            let command = merge(command, &table, Some(Path::new("/etc/pool")), &mut Vec::new()).unwrap();
            let matches = command.try_get_matches_from(["x", "stake"]).unwrap();
            matches
                .subcommand()
                .unwrap()
                .1
                .get_one::<PathBuf>("key")
                .cloned()
                .unwrap()
        };
        assert_eq!(key("keys/a.key"), Path::new("/etc/pool/keys/a.key"));
        assert_eq!(key("/b.key"), Path::new("/b.key"));
    }

    #[test]
    fn every_long_option_has_a_variable() {
        let command = with_variables(<crate::cli::Cli as clap::CommandFactory>::command());
        let variable = |command_name: &str, name: &str| {
            let command = command.find_subcommand(command_name).unwrap();
            let argument = command
                .get_arguments()
                .find(|it| it.get_long() == Some(name))
                .unwrap();
            argument.get_env().unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(variable("submit", "min-reputation"), "SANDRUN_MIN_REPUTATION");
        assert_eq!(variable("submit", "to"), "SANDRUN_TO");
        // a client of the market is an address
        assert_eq!(variable("submit", "client"), "SANDRUN_CLIENT");
        assert_eq!(variable("jobs", "client"), "SANDRUN_JOBS_CLIENT");
        command.debug_assert();
    }

    /// What the units of deploy/systemd start, and what their settings are called, is what the commands take.
    #[test]
    fn units_and_their_settings_are_understood() {
        let command = with_variables(<crate::cli::Cli as clap::CommandFactory>::command());
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/systemd");
        let mut units = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension() != Some(OsStr::new("service")) {
                continue;
            }
            units += 1;
            let name = path.display();
            let unit = std::fs::read_to_string(&path).unwrap();
            let line = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            assert_eq!(line("Restart="), "on-failure", "{name}");
            let start = line("ExecStart=/usr/local/bin/sandrun-pool ");
            // what stands there everybody on the machine sees
            assert!(
                !start.contains("key") && !start.contains("password"),
                "{name}: {start}"
            );
            let service = command.find_subcommand(start.split(' ').next().unwrap()).unwrap();
            let has = |wanted: &dyn Fn(&clap::Arg) -> bool| {
                service.get_arguments().chain(command.get_arguments()).any(wanted)
            };
            let settings = line("EnvironmentFile=").trim_start_matches('-');
            let settings = folder.join(Path::new(settings).file_name().unwrap());
            let settings = std::fs::read_to_string(settings).unwrap();
            let words = settings.lines().filter_map(|line| {
                let (name, value) = line.trim_start_matches('#').split_once('=')?;
                let is_name = name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
                is_name.then_some((name, value))
            });
            for (variable, value) in words {
                match variable {
                    "RUST_LOG" => {}
                    "ARGS" => {
                        for option in value.split(' ').filter_map(|word| word.strip_prefix("--")) {
                            assert!(has(&|it| it.get_long() == Some(option)), "{name}: --{option}");
                        }
                    }
                    _ => assert!(
                        has(&|it| it.get_env() == Some(OsStr::new(variable))),
                        "{name}: {variable}"
                    ),
                }
            }
        }
        assert_eq!(units, 7);
    }

    #[test]
    fn an_option_of_every_command_can_be_set_for_one() {
        let quiet = |command: &str| {
            let table = "[submit]\nquiet = true\n";
            let mut arguments = vec!["sandrun-pool", command];
            if command == "submit" {
                arguments.extend(["--code", "x", "--payment", "1"]);
            }
            let command = <crate::cli::Cli as clap::CommandFactory>::command();
            let command = merge(command, &toml::from_str(table).unwrap(), None, &mut Vec::new()).unwrap();
            command.try_get_matches_from(arguments).unwrap().get_flag("quiet")
        };
        assert!(quiet("submit"));
        assert!(!quiet("nodes"));
    }

    #[test]
    fn a_nodes_json_file_is_its_table() {
        let file = r#"{"broker_url": "http://b", "poll_interval": 5, "capabilities": {"gpu": false}, "job_timeout": null}"#;
        let table = node_json(file).unwrap();
        let expected =
            "[node]\nbroker = \"http://b\"\npoll-interval = \"5\"\ncapabilities = '{\"gpu\":false}'\n";
        assert_eq!(table, toml::from_str(expected).unwrap());
        let words = node_json(r#"{"broker": "http://b"}"#).unwrap_err().to_string();
        assert!(words.contains("broker_url"), "{words}");
    }

    #[test]
    fn unknown_keys_are_named() {
        let error = merge(
            command(),
            &toml::from_str("colour = 1").unwrap(),
            None,
            &mut Vec::new(),
        )
        .unwrap_err()
        .to_string();
        assert!(error.contains("colour"), "{error}");
        let error = merge(
            command(),
            &toml::from_str("[nothing]\na = 1").unwrap(),
            None,
            &mut Vec::new(),
        )
        .unwrap_err()
        .to_string();
        assert!(error.contains("nothing"), "{error}");
    }

    #[test]
    fn required_options_flags_lists_and_common_options_can_come_from_the_file() {
        let command = Command::new("x")
            .arg(
                Arg::new("json")
                    .long("json")
                    .global(true)
                    .action(clap::ArgAction::SetTrue),
            )
            .subcommand(
                Command::new("agent")
                    .arg(Arg::new("key").long("key").required(true))
                    .arg(Arg::new("class").long("class").action(clap::ArgAction::Append)),
            );
        let file = "json = true\n[agent]\nkey = \"k\"\nclass = [\"a\", \"b\"]\n";
        let command = merge(command, &toml::from_str(file).unwrap(), None, &mut Vec::new()).unwrap();
        let matches = command.try_get_matches_from(["x", "agent"]).unwrap();
        let agent = matches.subcommand().unwrap().1;
        assert!(agent.get_flag("json"));
        assert_eq!(agent.get_one::<String>("key").unwrap(), "k");
        assert_eq!(
            agent.get_many::<String>("class").unwrap().collect::<Vec<_>>(),
            ["a", "b"]
        );
    }
}
