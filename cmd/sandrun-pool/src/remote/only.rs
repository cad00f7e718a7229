//! Which options concern the market alone, and which a service alone. What was given on the command line and would be
//! ignored is refused, before anything is sent; what stands in the environment or the configuration file may be for other
//! commands.

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Error};

/// Options of the market.
const MARKET: &[&str] = &[
    "payment",
    "token",
    "class",
    "min_reputation",
    "force",
    "bond",
    "blockchain_rpc",
    "chain_id",
    "rpc_timeout",
    "deployments",
    "escrow",
    "registry",
    "ipfs_api",
    "key",
    "password_file",
    "pool",
];

/// Options of services.
const SERVICE: &[&str] = &[
    "client_name",
    "priority",
    "retries",
    "require",
    "after",
    "idempotency_key",
    "follow",
];

/// Refuses options that do not fit `--to`.
pub(crate) fn check(matches: &ArgMatches) -> Result<(), Error> {
    let Some((name, command)) = matches.subcommand() else {
        return Ok(());
    };
    if name == "doctor" {
        // it looks at all that there is
        return Ok(());
    }
    let names_service = command.ids().any(|it| it == "to")
        && command
            .get_one::<String>("to")
            .is_some_and(|it| !it.trim().is_empty());
    if names_service {
        refuse(command, MARKET, |option| {
            format!(
                "{option} is for the market, but --to (or SANDRUN_TO) names a service: leave one of them out"
            )
        })
    } else {
        refuse(command, SERVICE, |option| {
            format!(
                "{option} is for brokers and coordinators: name one with --to URL (or SANDRUN_TO), or leave {option} out"
            )
        })
    }
}

fn refuse(command: &ArgMatches, options: &[&str], words: impl Fn(&str) -> String) -> Result<(), Error> {
    let given = |id: &&&str| {
        command.ids().any(|it| it.as_str() == **id)
            && command.value_source(id) == Some(ValueSource::CommandLine)
    };
    match options.iter().find(given) {
        Some(id) => {
            let name = if *id == "client_name" { "client" } else { id };
            let option = format!("--{}", name.replace('_', "-"));
            Err(Error::raw(
                ErrorKind::ArgumentConflict,
                format!("{}\n", words(&option)),
            ))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use crate::cli::Cli;

    fn check(line: &str) -> Result<(), String> {
        let command = Cli::command().mut_subcommands(|it| {
            let has_to = it.get_arguments().any(|argument| argument.get_id() == "to");
            // whoever runs the tests may have one
            if has_to {
                it.mut_arg("to", |argument| argument.env(None::<&str>))
            } else {
                it
            }
        });
        let matches = command
            .try_get_matches_from(line.split(' '))
            .map_err(|it| it.to_string())?;
        super::check(&matches).map_err(|it| it.to_string())
    }

    #[test]
    fn options_of_the_other_side_are_refused() {
        for good in [
            "x submit --code a --payment 1",
            "x submit --code a --to http://b --priority 9 --after ab --client me",
            "x jobs --client 0x12",
            "x jobs --to http://b --client me",
            "x job 12 --to http://b",
            "x status",
            "x quote --code a --priority",
            "x status --to http://b",
            "x submit --code a --to http://b --retries 0",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, option) in [
            ("x submit --code a --to http://b --payment 1", "--payment"),
            ("x submit --code a --to http://b --class det", "--class"),
            ("x submit --code a --payment 1 --priority 9", "--priority"),
            ("x submit --code a --payment 1 --client me", "--client"),
            ("x submit --code a --payment 1 --retries 2", "--retries"),
            ("x status --to http://b --pool http://c", "--pool"),
            (
                "x submit --code a --payment 1 --to= --require gpu=true",
                "--require",
            ),
            (
                "x jobs --to http://b --blockchain-rpc http://c",
                "--blockchain-rpc",
            ),
            ("x nodes --to http://b --pool http://c", "--pool"),
        ] {
            let error = check(bad).unwrap_err();
            assert!(error.contains(&format!("{option} is for")), "{bad}: {error}");
        }
    }
}
