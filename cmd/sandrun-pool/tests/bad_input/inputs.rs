//! Manifests, code, arguments, money and configuration.

use sandrun_chain::Key;

use crate::case::{BAD_INPUT, Case, REFUSED, case};
use crate::world::World;

pub(crate) fn manifests(world: &World) -> anyhow::Result<Vec<Case>> {
    world.scene.code("code", &[("main.py", "print(1)\n")])?;
    world.scene.code("empty", &[("readme.txt", "")])?;
    world.scene.code(
        "inner",
        &[("a/deep.py", ""), ("job.json", r#"{"entrypoint": "deep.py"}"#)],
    )?;
    for (name, text) in [
        ("text.json", "{entrypoint"),
        ("list.json", "[1]"),
        ("field.json", r#"{"colour": 1}"#),
        ("type.json", r#"{"timeout": "long"}"#),
        ("missing.json", r#"{"entrypoint": "gone.py"}"#),
        ("outside.json", r#"{"entrypoint": "../main.py"}"#),
        ("absolute.json", r#"{"entrypoint": "/etc/passwd"}"#),
        ("named.json", r#"{"environment": "numpy"}"#),
        ("memory.json", r#"{"memory_mb": 1000000}"#),
    ] {
        world.write(name, text, 0o644)?;
    }
    let with = |manifest: &str, says: &[&str]| {
        case(
            &format!("submit --code code --payment 0.1 --manifest {manifest}"),
            BAD_INPUT,
            says,
        )
        // nothing of this needs a network
        .env("SANDRUN_RPC", "http://127.0.0.1:1")
    };
    Ok(vec![
        with("text.json", &["text.json", "is not JSON", "send one JSON object"]),
        with("list.json", &["list.json", "an array", "send one JSON object"]),
        with(
            "field.json",
            &[
                "field.json",
                "\"colour\"",
                "remove it, the fields are: entrypoint",
            ],
        ),
        with("type.json", &["type.json", "\"timeout\""]),
        with(
            "missing.json",
            &[
                "missing.json",
                "gone.py is not among the files",
                "correct the name",
            ],
        ),
        with(
            "outside.json",
            &[
                "outside.json",
                "\"../main.py\" leaves the bundle",
                "remove the `..`",
            ],
        ),
        with(
            "absolute.json",
            &[
                "absolute.json",
                "\"/etc/passwd\" is absolute",
                "relative to the bundle",
            ],
        ),
        with("gone.json", &["gone.json can't be read", "Check the path"]),
        with("/dev/zero", &["/dev/zero is no regular file", "give a file"]),
        case(
            "submit --code code/main.py --payment 0.1 --manifest missing.json",
            BAD_INPUT,
            &[
                "main.py is a single file",
                "missing.json starts gone.py",
                "or make it main.py",
            ],
        ),
        with(
            "field.json --out code/main.py",
            &["--out code/main.py is no directory"],
        ),
        with(
            "field.json --out code",
            &["--out code is not empty", "give a new or empty directory"],
        ),
        with(
            "field.json --out /proc/x/y",
            &["--out /proc/x/y can't be written"],
        ),
    ])
}

pub(crate) fn arguments() -> Vec<Case> {
    vec![
        case(
            "submit --code gone --payment 0.1",
            BAD_INPUT,
            &["the code gone can't be read", "Check the path"],
        ),
        case(
            "submit --code empty --payment 0.1",
            BAD_INPUT,
            &["empty", "no entrypoint", "name one"],
        ),
        case(
            "submit --code inner --payment 0.1",
            BAD_INPUT,
            &["deep.py", "did you mean a/deep.py?"],
        ),
        case(
            "quote --code code --manifest text.json",
            BAD_INPUT,
            &["text.json", "is not JSON"],
        ),
        case("submit --code code", BAD_INPUT, &["--payment"]),
        case(
            "submit --code code --payment 0.1 --redundancy 4",
            BAD_INPUT,
            &["redundancy 4", "choose 1", "or 5"],
        ),
        case(
            "submit --code code --payment 0.1 --redundancy two",
            BAD_INPUT,
            &["`two`", "choose 1, 2, 3 or 5"],
        ),
        case(
            "submit --code code --payment 0.1 --class x86",
            BAD_INPUT,
            &["'x86'", "native, det, det-soft"],
        ),
        case(
            "quote --code code --dollars-per-coin much",
            BAD_INPUT,
            &["`much`", "such as 2500"],
        ),
        case(
            "submit --code code --payment -1",
            BAD_INPUT,
            &["'-1' for '--payment", "such as 0.1"],
        ),
        case(
            "submit --code code --payment abc",
            BAD_INPUT,
            &["'abc' for '--payment", "such as 0.1"],
        ),
        case(
            "submit --code code --payment 0.1 --min-reputation 256",
            BAD_INPUT,
            &["256", "--min-reputation", "255"],
        ),
        case(
            "withdraw --to 0x12",
            BAD_INPUT,
            &["'0x12' for '--to", "40 hex digits"],
        ),
        case(
            "fetch 0x12",
            BAD_INPUT,
            &["`0x12` is not a job id", "at least the first four"],
        ),
        case("sumbit", BAD_INPUT, &["unrecognized subcommand 'sumbit'"]),
    ]
}

pub(crate) fn money(world: &World) -> anyhow::Result<Vec<Case>> {
    let poor = Key::generate(&world.path("poor.key"))?.address().to_string();
    let one = |more: &str, code, says: &[&str]| {
        case(&format!("submit --code code --redundancy 1 {more}"), code, says)
    };
    Ok(vec![
        one(
            "--payment much",
            BAD_INPUT,
            &["`much` is not an amount", "such as 0.1"],
        ),
        one(
            "--payment 0",
            BAD_INPUT,
            &["the payment of 0 is too low", "at least 0.01"],
        ),
        one(
            "--payment 0.000001",
            BAD_INPUT,
            &["the payment of 0.000001 is too low", "at least 0.01"],
        ),
        one(
            "--payment 500",
            BAD_INPUT,
            &[
                "the payment of 500 is too high",
                "pay at most 1",
                "choose redundancy",
            ],
        ),
        one(
            "--payment 0.1 --key poor.key",
            REFUSED,
            &[&poor, "has 0 of the native coin", "locks 0.1", "lower --payment"],
        ),
        one(
            "--payment 0.1 --key poor.key --token TEST",
            REFUSED,
            &[&poor, "has 0 of the TEST", "send some to"],
        ),
        one(
            "--payment 0.1 --token GOLD",
            BAD_INPUT,
            &["--token GOLD", "neither an address nor a symbol", "TEST"],
        ),
        case(
            "submit --code code --redundancy 3 --payment 0.3",
            BAD_INPUT,
            &[
                "redundancy 3 needs 3 nodes",
                "there are 1",
                "choose a lower redundancy",
            ],
        ),
        one(
            "--payment 0.1 --token 0x00000000000000000000000000000000000000aa",
            BAD_INPUT,
            &["no token that this escrow takes", "TEST", "leave it out"],
        ),
        case(
            "withdraw --token GOLD",
            BAD_INPUT,
            &["--token GOLD", "neither an address nor a symbol", "TEST"],
        ),
        one(
            "--payment 0.1 --bond 0.000001",
            BAD_INPUT,
            &["--bond 0.000001 is too low", "at least"],
        ),
        one(
            "--payment 0.1 --bond 1000000",
            BAD_INPUT,
            &["--bond 1000000 is too high", "there are 0"],
        ),
        one(
            "--payment 0.1 --min-reputation 200",
            BAD_INPUT,
            &[
                "1 nodes with a reputation of 200, and there are 0",
                "the best have 0",
                "--min-reputation 0 or less",
                "--force",
            ],
        ),
        one(
            "--payment 0.1 --manifest memory.json",
            BAD_INPUT,
            &[
                "nodes that can run this job",
                "1000000 MiB of memory",
                "lower `memory_mb`",
            ],
        ),
        one(
            "--payment 0.1 --manifest named.json",
            BAD_INPUT,
            &["no environment `numpy`", "known are data-science"],
        ),
        one(
            "--payment 0.1 --class 0100000000000000000000000000000000000000000000000000000000000000",
            BAD_INPUT,
            &["0x01000000", "there are 0"],
        ),
        case("withdraw", REFUSED, &["owes", "nothing", "--node"]),
        case("stake", REFUSED, &["has no node", "sandrun-pool agent"]),
        case("earnings", REFUSED, &["has no node", "sandrun-pool agent"]),
        case(
            "deploy --key poor.key --save d.json",
            REFUSED,
            &[&poor, "has 0 coin", "send coin to"],
        ),
    ])
}

pub(crate) fn configuration(world: &World) -> anyhow::Result<Vec<Case>> {
    world.write("unknown.toml", "colour = 1\n", 0o644)?;
    world.write("command.toml", "[fly]\nfast = true\n", 0o644)?;
    world.write("other.toml", "[status]\npayment = 1\n", 0o644)?;
    world.write("broken.toml", "a = [\n", 0o644)?;
    world.write("value.toml", "[pool]\nport = \"many\"\n", 0o644)?;
    let with = |file: &str, says: &[&str]| case(&format!("status --config {file}"), BAD_INPUT, says);
    Ok(vec![
        with(
            "unknown.toml",
            &["unknown.toml", "`colour` is not an option", "remove it"],
        ),
        with(
            "command.toml",
            &["command.toml", "[fly] is not a command", "sandrun-pool --help"],
        ),
        with(
            "other.toml",
            &[
                "other.toml",
                "`payment` is not an option of status",
                "status --help",
            ],
        ),
        with("broken.toml", &["broken.toml", "line 1"]),
        with("gone.toml", &["gone.toml", "is --config (SANDRUN_CONFIG) right?"]),
        case(
            "pool --config value.toml",
            BAD_INPUT,
            &["'many' for '--port", "configuration file value.toml"],
        ),
    ])
}
