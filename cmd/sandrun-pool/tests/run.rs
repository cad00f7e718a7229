//! `run` as a user runs it: what is kept of a run, and what is refused before it.

mod support;

use std::path::Path;

use support::{BIN, Said, said};
use tokio::process::Command;

async fn run(directory: &Path, arguments: &[&str]) -> anyhow::Result<Said> {
    let mut command = Command::new(BIN);
    command
        .args(["run", "main.sh"])
        .args(arguments)
        .current_dir(directory)
        .env("SANDRUN_CONFIG", "/dev/null");
    said(command).await
}

#[tokio::test]
async fn a_trace_goes_into_a_file_and_nowhere_else() -> anyhow::Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    let directory = tempfile::tempdir()?;
    let at = directory.path();
    std::fs::write(at.join("main.sh"), "echo ran\n")?;
    std::fs::create_dir(at.join("folder"))?;
    let made = Command::new("mkfifo").arg(at.join("pipe")).status().await?;
    assert!(made.success());
    for (place, words) in [
        ("folder", "is a directory"),
        ("pipe", "is no regular file"),
        ("missing/trace", "is no directory"),
    ] {
        let refused = run(at, &["--trace", place]).await?;
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{refused:?}");
        assert!(refused.stderr.contains(words), "{refused:?}");
    }
    assert!(at.join("pipe").symlink_metadata()?.file_type().is_fifo());
    std::fs::write(at.join("old"), "old")?;
    for place in ["new", "old"] {
        let ran = run(at, &["--trace", place]).await?;
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "ran\n"), "{ran:?}");
        assert!(std::fs::metadata(at.join(place))?.len() > 100);
    }
    Ok(())
}

#[tokio::test]
async fn the_trace_is_kept_where_the_outputs_cannot_be() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let at = directory.path();
    // a path that is just short enough, until an output's name is added
    let name = "x".repeat(200);
    std::fs::write(at.join("main.sh"), format!("echo > {name}\n"))?;
    let out = vec![name.as_str(); 20].join("/");
    let failed = run(at, &["--out", &out, "--trace", "kept"]).await?;
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(
        failed.stderr.contains("the outputs can't be written"),
        "{failed:?}"
    );
    assert!(at.join("kept").is_file(), "{failed:?}");
    Ok(())
}

#[tokio::test]
async fn what_is_left_out_of_the_outputs_is_said() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let at = directory.path();
    std::fs::write(
        at.join("main.sh"),
        "echo a > kept; echo b > 'a\\b'; ln -s kept link\n",
    )?;
    let ran = run(at, &["--out", "out"]).await?;
    assert_eq!(ran.code, 0, "{ran:?}");
    for words in [
        "a\\\\b was left out: its name",
        "link was left out: it is a symbolic link",
    ] {
        assert!(ran.stderr.contains(words), "{words}: {ran:?}");
    }
    let ran = run(at, &["--json"]).await?;
    let said: serde_json::Value = serde_json::from_str(&ran.stdout)?;
    assert_eq!(said["left_out"].as_array().map(Vec::len), Some(2), "{said}");
    Ok(())
}
