//! A job's output as it was printed: one file on disk, written by the run, followed by any number of readers.
//!
//! Owns the file's framing (one byte for the stream, four for the length, then the bytes) and the order in which
//! pieces of both streams came. Never keeps output in memory; a run that prints nothing has no file.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sandrun_sandbox::OutputSink;
use tokio::sync::watch;

/// Which stream a piece was printed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// A piece of output, as it was written at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) stream: Stream,
    pub(crate) bytes: Vec<u8>,
}

/// The writing side. Dropping it tells readers nothing; the job's stage does.
#[derive(Debug)]
pub(crate) struct LogWriter {
    path: PathBuf,
    file: Mutex<Target>,
    length: watch::Sender<u64>,
}

/// The file that is written to.
#[derive(Debug)]
enum Target {
    /// Nothing was printed yet.
    None,
    Open(File),
    /// The run is over.
    Closed,
}

/// The reading side. Clones are independent.
#[derive(Clone, Debug)]
pub(crate) struct LogReader {
    path: PathBuf,
    length: watch::Receiver<u64>,
}

/// An empty log, which will be a new file at `path` as soon as something is printed.
pub(crate) fn new(path: &Path) -> (LogWriter, LogReader) {
    let (sender, receiver) = watch::channel(0);
    let reader = LogReader {
        path: path.to_owned(),
        length: receiver,
    };
    let writer = LogWriter {
        path: path.to_owned(),
        file: Mutex::new(Target::None),
        length: sender,
    };
    (writer, reader)
}

impl LogWriter {
    fn write(&self, stream: Stream, bytes: &[u8]) {
        let Ok(length) = u32::try_from(bytes.len()) else {
            return;
        };
        let mut frame = Vec::with_capacity(bytes.len() + 5);
        frame.push(u8::from(stream == Stream::Stderr));
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(bytes);
        match self.append(&frame) {
            Ok(()) => self.length.send_modify(|length| *length += frame.len() as u64),
            Err(error) => tracing::error!(%error, "cannot write a job's log"),
        }
    }

    fn append(&self, frame: &[u8]) -> io::Result<()> {
        let mut target = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Target::None = *target {
            *target = Target::Open(File::create_new(&self.path)?);
        }
        match &mut *target {
            Target::Open(file) => file.write_all(frame),
            Target::None | Target::Closed => Err(io::Error::other("the run is over")),
        }
    }

    /// The run is over: nothing is written any more, and no file is held open for as long as the job is remembered.
    pub(crate) fn close(&self) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Target::Closed;
    }
}

impl OutputSink for LogWriter {
    fn stdout(&self, piece: &[u8]) {
        self.write(Stream::Stdout, piece);
    }

    fn stderr(&self, piece: &[u8]) {
        self.write(Stream::Stderr, piece);
    }
}

impl LogReader {
    /// Resolves when there is more than `offset` bytes; never if the writer is gone.
    pub(crate) async fn grown_beyond(&mut self, offset: u64) {
        if self.length.wait_for(|length| *length > offset).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Bytes of log so far: the offset at which nothing is yet.
    pub(crate) fn length(&self) -> u64 {
        *self.length.borrow()
    }

    /// The whole pieces from `offset` on, at most about `most` bytes of them, and the offset after them. Blocking.
    pub(crate) fn pieces(&self, offset: u64, most: u64) -> io::Result<(Vec<Piece>, u64)> {
        let end = self.length();
        if offset >= end {
            return Ok((Vec::new(), offset));
        }
        let mut file = BufReader::new(File::open(&self.path)?);
        file.seek(SeekFrom::Start(offset))?;
        let mut at = offset;
        let mut pieces = Vec::new();
        while at < end && at - offset < most {
            let mut header = [0; 5];
            file.read_exact(&mut header)?;
            let [stream, length @ ..] = header;
            let mut bytes = vec![0; usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX)];
            file.read_exact(&mut bytes)?;
            at += 5 + bytes.len() as u64;
            let stream = if stream == 0 {
                Stream::Stdout
            } else {
                Stream::Stderr
            };
            pieces.push(Piece { stream, bytes });
        }
        Ok((pieces, at))
    }

    /// Everything so far, stdout and stderr apart. Blocking.
    pub(crate) fn whole(&self) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        for piece in self.pieces(0, u64::MAX)?.0 {
            match piece.stream {
                Stream::Stdout => stdout.extend(piece.bytes),
                Stream::Stderr => stderr.extend(piece.bytes),
            }
        }
        Ok((stdout, stderr))
    }
}

/// Turns pieces of bytes into pieces of text without breaking characters that two pieces share; what is no UTF-8
/// becomes U+FFFD. The pieces together are the lossy text of the bytes together.
#[derive(Debug, Default)]
pub struct TextPieces {
    rest: Vec<u8>,
}

impl TextPieces {
    /// The text that is complete with these bytes.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let complete = self.rest.len() - unfinished(&self.rest);
        let tail = self.rest.split_off(complete);
        let text = String::from_utf8_lossy(&self.rest).into_owned();
        self.rest = tail;
        text
    }

    /// What is left at the end: the beginning of a character that never came whole.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned()
    }
}

/// How many of the last bytes begin a character that more bytes could complete: 0 to 3.
fn unfinished(bytes: &[u8]) -> usize {
    (1..=bytes.len().min(3))
        .find(|back| {
            let tail = &bytes[bytes.len() - back..];
            std::str::from_utf8(tail)
                .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pieces_come_back_in_order_from_any_piece_on() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, reader) = new(&folder.path().join("log"));
        assert_eq!(reader.whole().unwrap(), (Vec::new(), Vec::new()));
        assert!(!folder.path().join("log").exists());
        writer.stdout(b"one");
        writer.stderr(b"two");
        let (pieces, middle) = reader.pieces(0, 1).unwrap();
        assert_eq!(
            pieces,
            [Piece {
                stream: Stream::Stdout,
                bytes: b"one".to_vec()
            }]
        );
        writer.stdout(b"three");
        let (pieces, end) = reader.pieces(middle, u64::MAX).unwrap();
        assert_eq!(pieces.len(), 2);
        assert_eq!(reader.pieces(end, u64::MAX).unwrap().0, []);
        writer.close();
        writer.stdout(b"too late");
        assert_eq!(reader.whole().unwrap(), (b"onethree".to_vec(), b"two".to_vec()));
    }

    proptest! {
        #[test]
        fn text_pieces_make_up_the_whole_text(
            pieces in prop::collection::vec(
                prop_oneof![prop::collection::vec(any::<u8>(), 0..6), "[aü€😀]{0,3}".prop_map(String::into_bytes)], 0..12,
            ),
            cut in 1usize..5,
        ) {
            let all: Vec<u8> = pieces.concat();
            let mut text = TextPieces::default();
            let mut joined: String = all.chunks(cut).map(|piece| text.push(piece)).collect();
            prop_assert!(text.rest.len() <= 3);
            joined.push_str(&text.finish());
            prop_assert_eq!(joined, String::from_utf8_lossy(&all).into_owned());
        }
    }
}
