//! The text form in which two existing clients send one file as a part named `job.tar.gz`:
//! `----Tar\nPath: NAME\nSize: N\n\n` followed by the file's bytes.

use std::io::{self, BufRead, Read as _};

use sandrun_types::BundlePath;
use thiserror::Error;

/// How such a part begins.
pub(crate) const MAGIC: &[u8] = b"----Tar\n";
/// Longest header line.
const MAX_LINE: u64 = 4096;

/// A part that begins like the text form and goes on otherwise.
#[derive(Debug, Error)]
pub(crate) enum QuirkError {
    #[error(
        "the part begins with `----Tar`, but its header is not `Path: NAME`, `Size: N` and an empty line; send a real \
         .tar.gz, or the file itself"
    )]
    Header,
    #[error("the part says it holds {stated} bytes, and holds {found}; send it again")]
    Truncated { stated: u64, found: u64 },
    #[error(transparent)]
    Name(#[from] sandrun_types::BundlePathError),
    #[error("cannot read the spooled part")]
    Read(#[from] io::Error),
}

/// Reads the header; `reader` is then at the file's first byte. `total` is the length of the whole part.
///
/// The stated size is a lower bound only: one client counts characters, not bytes, so all that follows is the file.
pub(crate) fn read_header(reader: &mut impl BufRead, total: u64) -> Result<BundlePath, QuirkError> {
    let mut header_bytes = 0;
    let mut line = || -> Result<String, QuirkError> {
        let mut line = Vec::new();
        reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        header_bytes += line.len() as u64;
        let line = line.strip_suffix(b"\n").ok_or(QuirkError::Header)?;
        String::from_utf8(line.to_vec()).map_err(|_| QuirkError::Header)
    };
    let first = line()?;
    let (path, size, blank) = (line()?, line()?, line()?);
    let path = path.strip_prefix("Path: ").ok_or(QuirkError::Header)?;
    let stated: u64 = size
        .strip_prefix("Size: ")
        .and_then(|n| n.parse().ok())
        .ok_or(QuirkError::Header)?;
    if first != "----Tar" || !blank.is_empty() {
        return Err(QuirkError::Header);
    }
    let found = total.saturating_sub(header_bytes);
    if found < stated {
        return Err(QuirkError::Truncated { stated, found });
    }
    Ok(BundlePath::parse(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn read(text: &str) -> Result<(String, String), QuirkError> {
        let mut reader = Cursor::new(text.as_bytes());
        let path = read_header(&mut reader, text.len() as u64)?;
        let mut rest = String::new();
        reader.read_to_string(&mut rest)?;
        Ok((path.to_string(), rest))
    }

    #[test]
    fn one_file_whose_size_may_count_characters() {
        let expect = ("main.py".to_owned(), "print('ü')\n\n----Tar\n".to_owned());
        assert_eq!(
            read("----Tar\nPath: main.py\nSize: 10\n\nprint('ü')\n\n----Tar\n").unwrap(),
            expect
        );
        assert_eq!(
            read("----Tar\nPath: a\nSize: 0\n\n").unwrap(),
            ("a".to_owned(), String::new())
        );
    }

    #[test]
    fn bad_headers_names_and_sizes_are_refused() {
        assert!(matches!(
            read("----Tar\nPath: ../x\nSize: 0\n\n"),
            Err(QuirkError::Name(_))
        ));
        assert!(matches!(
            read("----Tar\nPath: /x\nSize: 0\n\n"),
            Err(QuirkError::Name(_))
        ));
        assert!(matches!(
            read("----Tar\nPath: x\nSize: 9\n\nabc"),
            Err(QuirkError::Truncated { stated: 9, found: 3 })
        ));
        for bad in [
            "----Tar\n",
            "----Tar\nPath: x\n\n",
            "----Tar\nPath: x\nSize: -1\n\n",
            "----Tar\nPath: x\nSize: 1\nx",
        ] {
            assert!(matches!(read(bad), Err(QuirkError::Header)), "{bad}");
        }
    }
}
