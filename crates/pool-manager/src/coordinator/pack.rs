//! Archives in an archive: what an executor unpacks, so that these arrive as they are. Blocks.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use sandrun_executor::FileContent;
use sandrun_types::BundlePath;

/// Writes these files of these lengths into a new `.tar.gz`.
///
/// # Errors
/// The disk's.
pub(super) fn pack(at: &Path, files: &[(BundlePath, FileContent, u64)]) -> io::Result<()> {
    // what is packed already gets no smaller
    let gzip = GzEncoder::new(File::create_new(at)?, Compression::none());
    let mut archive = tar::Builder::new(gzip);
    for (name, content, length) in files {
        let reader: &mut dyn Read = match content {
            FileContent::Bytes(bytes) => &mut bytes.as_slice(),
            FileContent::Path(path) => &mut File::open(path)?,
        };
        let mut header = tar::Header::new_gnu();
        header.set_size(*length);
        header.set_mode(0o644);
        archive.append_data(&mut header, name.as_str(), reader)?;
    }
    archive.into_inner()?.finish()?.sync_all()
}
