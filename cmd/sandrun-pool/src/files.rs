//! Small files that the user names: read whole, never without a limit. What they say is their readers' matter.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Most bytes of such a file: more than any receipt, proof, lock or configuration has.
const MOST: u64 = 16 << 20;

/// All of a file, or what a pipe says. A device without an end is refused before it takes all memory.
///
/// # Errors
/// As for any file, and [`io::ErrorKind::FileTooLarge`].
pub(crate) fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        let text = format!("it is larger than {} MiB", MOST >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_end_is_refused() {
        let error = read_small(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read_small(Path::new("/dev/null")).unwrap(), b"");
    }
}
