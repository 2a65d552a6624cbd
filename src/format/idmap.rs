//! Maps between the ids of the layers and those of the mount: `uidmapping` and `gidmapping`.
//!
//! The value is a list of triples `A:B:LEN`, joined by colons, with an optional colon in front. The
//! ids `A` to `A+LEN-1` of the layers appear as `B` to `B+LEN-1` in the mount. For container
//! runtimes, `A` is the id in the container, as in its image, and `B` the id outside.

use crate::config::IdRange;
use crate::id::Id;

/// Parses the value of an option.
///
/// # Errors
/// The required form and what violates it, as the end of a sentence.
pub fn parse(text: &[u8]) -> Result<Vec<IdRange>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "numbers, in decimal".to_owned())?;
    let words: Vec<&str> = text.strip_prefix(':').unwrap_or(text).split(':').collect();
    let mut ranges = Vec::with_capacity(words.len() / 3);
    for triple in words.chunks(3) {
        let [stored, shown, len] = triple else {
            return Err("triples LAYER:MOUNT:COUNT with colons between them".to_owned());
        };
        let id = |word: &str| match word.parse::<u32>() {
            Ok(id) if word.starts_with(|c: char| c.is_ascii_digit()) => Ok(id),
            _ => Err(format!("numbers below 4294967296 (\"{word}\" is none)")),
        };
        let range = IdRange { stored: id(stored)?, shown: id(shown)?, len: id(len)? };
        check(&range)?;
        ranges.push(range);
    }
    check_apart(&ranges, "the ids of the layers", |range| range.stored)?;
    check_apart(&ranges, "the ids of the mount", |range| range.shown)?;
    Ok(ranges)
}

fn check(range: &IdRange) -> Result<(), String> {
    let IdRange { stored, shown, len } = *range;
    if len == 0 {
        return Err(format!("no empty range ({stored}:{shown}:0)"));
    }
    // The sum is the first id after the range. `u32::MAX`, which is nobody's id, may not be in one.
    if stored.checked_add(len).is_none() || shown.checked_add(len).is_none() {
        return Err(format!("ranges that end at 4294967294 ({stored}:{shown}:{len} goes beyond)"));
    }
    Ok(())
}

fn check_apart(
    ranges: &[IdRange],
    side: &str,
    start: impl Fn(&IdRange) -> u32,
) -> Result<(), String> {
    let mut sorted: Vec<&IdRange> = ranges.iter().collect();
    sorted.sort_by_key(|range| start(range));
    for pair in sorted.windows(2) {
        let [a, b] = pair else { continue };
        if start(a) + a.len > start(b) {
            let text = |r: &IdRange| format!("{}:{}:{}", r.stored, r.shown, r.len);
            let (a, b) = (text(a), text(b));
            return Err(format!("ranges that do not overlap ({a} and {b} do, in {side})"));
        }
    }
    Ok(())
}

/// A map of ids, with its ranges sorted by either side for lookups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMap {
    by_stored: Box<[IdRange]>,
    by_shown: Box<[IdRange]>,
}

impl IdMap {
    /// Builds a map of ranges that do not overlap, as [`parse`] returns them.
    #[must_use]
    pub fn new(ranges: &[IdRange]) -> Self {
        let sorted = |start: fn(&IdRange) -> u32| {
            let mut ranges: Box<[IdRange]> = ranges.into();
            ranges.sort_by_key(start);
            ranges
        };
        Self { by_stored: sorted(|range| range.stored), by_shown: sorted(|range| range.shown) }
    }

    /// Maps an id of the layers to the mount; `None` if no range has it.
    #[must_use]
    pub fn shown(&self, id: Id) -> Option<Id> {
        let (range, offset) = find(&self.by_stored, id, |range| range.stored)?;
        Id::new(range.shown.checked_add(offset)?)
    }

    /// Maps an id of the mount to the layers; `None` if no range has it.
    #[must_use]
    pub fn stored(&self, id: Id) -> Option<Id> {
        let (range, offset) = find(&self.by_shown, id, |range| range.shown)?;
        Id::new(range.stored.checked_add(offset)?)
    }
}

/// Finds the range that contains `id`, and the offset of `id` in it.
fn find(ranges: &[IdRange], id: Id, start: fn(&IdRange) -> u32) -> Option<(&IdRange, u32)> {
    let behind = ranges.partition_point(|range| start(range) <= id.number());
    let range = ranges.get(behind.checked_sub(1)?)?;
    let offset = id.number().checked_sub(start(range))?;
    (offset < range.len).then_some((range, offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    fn map(text: &str) -> Numbers {
        Numbers(IdMap::new(&parse(text.as_bytes()).unwrap()))
    }

    /// A map that takes and returns plain numbers.
    struct Numbers(IdMap);

    impl Numbers {
        fn shown(&self, id: u32) -> Option<u32> {
            self.0.shown(Id::new(id)?).map(Id::number)
        }

        fn stored(&self, id: u32) -> Option<u32> {
            self.0.stored(Id::new(id)?).map(Id::number)
        }
    }

    #[test]
    fn the_forms_that_runtimes_send() {
        for text in ["0:1:70000", ":0:1:70000"] {
            let map = map(text);
            assert_eq!((map.shown(0), map.stored(1)), (Some(1), Some(0)), "{text}");
            assert_eq!((map.shown(69_999), map.shown(70_000)), (Some(70_000), None), "{text}");
            assert_eq!((map.stored(0), map.stored(70_001)), (None, None), "{text}");
        }
        // What `--userns=keep-id` sends for user 1001.
        let keep = map(":0:1:1001:1001:0:1:1002:1002:1050072");
        assert_eq!(
            (keep.shown(0), keep.shown(1000), keep.shown(1001)),
            (Some(1), Some(1001), Some(0))
        );
        assert_eq!((keep.stored(0), keep.stored(1001)), (Some(1001), Some(1000)));
        assert_eq!(keep.shown(1002), Some(1002));
        assert_eq!(keep.shown(1_051_074), None);
        assert_eq!(map("0:0:4294967295").shown(4_294_967_294), Some(4_294_967_294));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, expected) in [
            ("", "triples"),
            (":", "triples"),
            ("0:1", "triples"),
            ("0:1:2:", "triples"),
            ("0:1:2:3:4", "triples"),
            ("::0:1:2", "\"\" is none"),
            ("0:1:x", "\"x\" is none"),
            ("0:-1:2", "\"-1\" is none"),
            ("+0:1:2", "\"+0\" is none"),
            ("0:4294967296:1", "4294967296"),
            ("0:1:0", "no empty range"),
            ("1:0:4294967295", "goes beyond"),
            ("0:4294967295:1", "goes beyond"),
            ("0:0:10:9:100:2", "in the ids of the layers"),
            ("0:0:10:100:9:2", "in the ids of the mount"),
            ("5:0:1:5:1:1", "overlap"),
        ] {
            let said = parse(text.as_bytes()).unwrap_err();
            assert!(said.contains(expected), "{text}: {said}");
        }
        assert!(parse(b"\xff:0:1").is_err());
    }

    proptest! {
        // Each run tests the same cases.
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(1),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// Each accepted value is a bijection between the two sides.
        #[test]
        fn there_and_back(
            ranges in prop::collection::vec((0u32..60, 0u32..60, 1u32..20), 1..5),
            id in 0u32..100,
        ) {
            let words: Vec<_> = ranges.iter().map(|(a, b, n)| format!("{a}:{b}:{n}")).collect();
            if let Ok(ranges) = parse(words.join(":").as_bytes()) {
                let map = Numbers(IdMap::new(&ranges));
                let by_hand = ranges
                    .iter()
                    .find(|r| (r.stored..r.stored + r.len).contains(&id))
                    .map(|r| r.shown + (id - r.stored));
                prop_assert_eq!(map.shown(id), by_hand);
                if let Some(shown) = map.shown(id) {
                    prop_assert_eq!(map.stored(shown), Some(id));
                }
                if let Some(stored) = map.stored(id) {
                    prop_assert_eq!(map.shown(stored), Some(id));
                }
            }
        }

        #[test]
        fn any_bytes_are_answered(text in prop::collection::vec(any::<u8>(), 0..40)) {
            parse(&text).ok();
        }
    }
}
