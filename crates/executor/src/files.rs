//! What a file's name says about it: kind, MIME type, a size that people read.

use sandrun_types::BundlePath;

/// The kinds that pages show, by extension.
const KINDS: [(&str, &[&str]); 9] = [
    (
        "image",
        &["png", "jpg", "jpeg", "gif", "bmp", "webp", "svg", "tiff", "ico"],
    ),
    (
        "model",
        &["pt", "pth", "safetensors", "onnx", "pb", "ckpt", "pkl", "joblib"],
    ),
    ("video", &["mp4", "avi", "mov", "mkv", "webm"]),
    ("audio", &["mp3", "wav", "flac", "ogg", "m4a", "aac"]),
    (
        "data",
        &[
            "csv", "tsv", "json", "jsonl", "parquet", "npy", "npz", "h5", "hdf5", "feather", "arrow",
            "sqlite",
        ],
    ),
    ("text", &["txt", "log", "md", "rst"]),
    ("archive", &["zip", "tar", "gz", "tgz", "bz2", "xz", "7z"]),
    (
        "code",
        &[
            "py", "js", "ts", "sh", "rb", "r", "c", "h", "cpp", "rs", "go", "java",
        ],
    ),
    ("document", &["pdf", "html", "docx", "xlsx", "pptx"]),
];

/// `text`, `image`, `data` …, `other`.
pub(crate) fn kind(path: &BundlePath) -> &'static str {
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    KINDS
        .iter()
        .find(|(_, extensions)| extensions.contains(&extension.as_str()))
        .map_or("other", |(kind, _)| kind)
}

/// The MIME type, `application/octet-stream` where nothing is known.
pub(crate) fn mime_type(path: &BundlePath) -> String {
    match path.extension() {
        Some("log") => "text/plain".to_owned(),
        Some(_) | None => mime_guess::from_path(path.as_str())
            .first_or_octet_stream()
            .to_string(),
    }
}

/// A size such as `1.5 KB` (steps of 1024, as existing clients show it).
pub(crate) fn format_size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KB", "MB", "GB"];
    let mut tenths = bytes.saturating_mul(10);
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths = tenths.saturating_add(512) / 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_kind_and_type() {
        let path = |text| BundlePath::parse(text).unwrap();
        assert_eq!(
            (kind(&path("a/B.PNG")), mime_type(&path("a/B.PNG")).as_str()),
            ("image", "image/png")
        );
        assert_eq!(
            (kind(&path("x.csv")), mime_type(&path("x.csv")).as_str()),
            ("data", "text/csv")
        );
        assert_eq!(
            (kind(&path("x.txt")), mime_type(&path("x.log")).as_str()),
            ("text", "text/plain")
        );
        assert_eq!(
            (kind(&path("x")), mime_type(&path("x")).as_str()),
            ("other", "application/octet-stream")
        );
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0.0 B"),
            (1023, "1023.0 B"),
            (1024, "1.0 KB"),
            (1536, "1.5 KB"),
            (5 << 20, "5.0 MB"),
            (u64::MAX, ""),
        ] {
            assert!(
                format_size(bytes).starts_with(text),
                "{bytes}: {}",
                format_size(bytes)
            );
        }
    }
}
