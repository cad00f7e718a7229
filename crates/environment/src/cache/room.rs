//! Which images go when there is no room. Pure.

use std::time::SystemTime;

/// What is known of an image for this choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate<I> {
    pub(super) id: I,
    pub(super) bytes: u64,
    pub(super) last_used: SystemTime,
    pub(super) is_used: bool,
}

/// The images to remove so that all the others and `needed` bytes take at most `cap`: those that were used longest ago,
/// never one in use. `None` where that does not do.
pub(super) fn make_room<I: Copy>(mut images: Vec<Candidate<I>>, needed: u64, cap: u64) -> Option<Vec<I>> {
    let mut total = images
        .iter()
        .fold(needed, |sum, image| sum.saturating_add(image.bytes));
    images.retain(|image| !image.is_used);
    images.sort_by_key(|image| image.last_used);
    let mut gone = Vec::new();
    for image in images {
        if total <= cap {
            break;
        }
        total = total.saturating_sub(image.bytes);
        gone.push(image.id);
    }
    (total <= cap).then_some(gone)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn image(id: usize, bytes: u64, age: u64, is_used: bool) -> Candidate<usize> {
        let last_used = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age);
        Candidate {
            id,
            bytes,
            last_used,
            is_used,
        }
    }

    #[test]
    fn the_one_used_longest_ago_goes_first_and_no_more_than_needed() {
        let images = vec![
            image(0, 10, 1, false),
            image(1, 10, 9, false),
            image(2, 10, 5, false),
        ];
        assert_eq!(make_room(images.clone(), 10, 40), Some(vec![]));
        assert_eq!(make_room(images.clone(), 10, 30), Some(vec![1]));
        assert_eq!(make_room(images.clone(), 10, 20), Some(vec![1, 2]));
        assert_eq!(make_room(images, 41, 40), None);
    }

    #[test]
    fn none_in_use_goes() {
        let images = vec![image(0, 10, 9, true), image(1, 10, 1, false)];
        assert_eq!(make_room(images.clone(), 5, 15), Some(vec![1]));
        assert_eq!(make_room(images, 5, 14), None);
    }

    proptest! {
        #[test]
        fn what_stays_fits(
            images in prop::collection::vec((0_u64..50, 0_u64..1000, any::<bool>()), 0..12),
            needed in 0_u64..100,
            cap in 0_u64..300,
        ) {
            let images: Vec<_> =
                images.into_iter().enumerate().map(|(id, (bytes, age, used))| image(id, bytes, age, used)).collect();
            let used: u64 = images.iter().filter(|it| it.is_used).map(|it| it.bytes).sum();
            match make_room(images.clone(), needed, cap) {
                None => prop_assert!(used + needed > cap),
                Some(gone) => {
                    prop_assert!(gone.iter().all(|id| !images[*id].is_used));
                    let kept: u64 = images.iter().filter(|it| !gone.contains(&it.id)).map(|it| it.bytes).sum();
                    prop_assert!(kept + needed <= cap);
                }
            }
        }
    }
}
