//! The byte form of leaves: one for each value, and nothing else is read.

use proptest::prelude::*;

use super::any;
use crate::*;

/// What is read from bytes has exactly these bytes.
fn is_refused_or_canonical(bytes: &[u8]) -> bool {
    let event = TraceEvent::decode(bytes).map_or(true, |event| event.encode() == bytes);
    let header = TraceHeader::decode(bytes).map_or(true, |header| header.encode() == bytes);
    event && header
}

proptest! {
    #[test]
    fn an_event_is_read_as_it_was_written(event in any::event()) {
        prop_assert_eq!(TraceEvent::decode(&event.encode()), Ok(event));
    }

    #[test]
    fn a_header_is_read_as_it_was_written(header in any::header()) {
        prop_assert_eq!(TraceHeader::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn different_events_have_different_bytes(a in any::event(), b in any::event()) {
        prop_assert_eq!(a == b, a.encode() == b.encode());
    }

    #[test]
    fn a_changed_byte_is_refused_or_another_event(event in any::event(), at in any::<prop::sample::Index>(), by in 1..=255_u8) {
        let mut bytes = event.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        prop_assert!(is_refused_or_canonical(&bytes));
        prop_assert_ne!(TraceEvent::decode(&bytes), Ok(event));
    }

    #[test]
    fn a_changed_header_is_refused_or_another(header in any::header(), at in any::<prop::sample::Index>(), by in 1..=255_u8) {
        let mut bytes = header.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        prop_assert!(is_refused_or_canonical(&bytes));
        prop_assert_ne!(TraceHeader::decode(&bytes), Ok(header));
    }

    #[test]
    fn what_is_cut_off_or_goes_on_is_refused(event in any::event(), header in any::header(), more in any::<u8>()) {
        let bytes = event.encode();
        prop_assert!((0..bytes.len()).all(|end| TraceEvent::decode(&bytes[..end]).is_err()));
        prop_assert!(TraceEvent::decode(&[bytes, vec![more]].concat()).is_err());
        let bytes = header.encode();
        prop_assert!((0..bytes.len()).all(|end| TraceHeader::decode(&bytes[..end]).is_err()));
        prop_assert!(TraceHeader::decode(&[bytes, vec![more]].concat()).is_err());
    }

    #[test]
    fn any_bytes_are_refused_or_canonical(tag in any::<u8>(), rest in prop::collection::vec(any::<u8>(), 0..80)) {
        prop_assert!(is_refused_or_canonical(&[vec![tag], rest].concat()));
    }
}

#[test]
fn a_header_has_the_lowest_version_that_says_it() {
    let mut header = super::header();
    assert_eq!(header.version(), TRACE_VERSION);
    header.image = Some(ContentDigest([7; 32]));
    assert_eq!(header.version(), TRACE_VERSION_TRACED);
    // as version 2 it may not say what version 1 can
    let mut bytes = header.encode();
    bytes[35..67].fill(0);
    assert_eq!(TraceHeader::decode(&bytes), Err(TraceDecodeError::Version(2)));
}

#[test]
fn variables_out_of_order_are_refused() {
    let mut changed = super::header().encode();
    let at = changed.windows(6).position(|window| window == b"LC_ALL").unwrap();
    changed[at..at + 6].copy_from_slice(b"ZZ_ALL");
    assert_eq!(
        TraceHeader::decode(&changed),
        Err(TraceDecodeError::Field("order of variables"))
    );
}

#[test]
fn paths_have_one_form() {
    assert_eq!(TracePath::of(b"").as_bytes(), b".");
    assert_eq!(TracePath::of(b"/tmp/a\0b").as_bytes(), b"/tmp/a");
    assert_eq!(
        TracePath::of(&[b'x'; TRACE_PATH_MAX]).as_bytes().len(),
        TRACE_PATH_MAX
    );
    let long = TracePath::of(&[b'x'; TRACE_PATH_MAX + 1]);
    assert!(long.to_string().starts_with("sha256:"), "{long}");
    assert_eq!(
        TracePath::of(b"a\xff\n\x1b[2J").to_string(),
        "a\\xff\\n\\u{1b}[2J"
    );
}
