//! The contents of files that are not in the folder at the moment: not yet, because the store was opened before a disk was
//! mounted, or not any more, because the folder was replaced or is missing. When the files are back they are not read
//! again.

use std::time::{Duration, Instant};

use jtp_core::ImageId;

use crate::fingerprint::Fingerprint;
use crate::known::{Contents, KnownContents, Record};

/// How long the contents of missing files are kept.
const KEEP_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Generations this close to each other may be merged. The older files are kept for up to this much longer.
const MERGED_WITHIN: Duration = Duration::from_secs(60 * 60);

/// The most records of earlier folders, some 60 MB. Those of the last folder are all kept: they take less memory than
/// its listed images did.
const MAX_EARLIER: usize = 1_000_000;

/// Contents by fingerprint, in the order in which their files were missed.
#[derive(Debug)]
pub(super) struct Retained {
    /// The newest one is the last, and the one that is right if two have different contents of a fingerprint.
    generations: Vec<Generation>,
    max_earlier: usize,
}

impl Default for Retained {
    fn default() -> Retained {
        Retained {
            generations: Vec::new(),
            max_earlier: MAX_EARLIER,
        }
    }
}

#[derive(Debug)]
struct Generation {
    /// When its first and its last files were missed.
    since: (Instant, Instant),
    contents: KnownContents,
}

impl Retained {
    pub(super) fn new(contents: KnownContents, now: Instant) -> Retained {
        let mut retained = Retained::default();
        retained.push(contents, now);
        retained
    }

    pub(super) fn get(&self, fingerprint: &Fingerprint) -> Option<Contents> {
        let mut newest_first = self.generations.iter().rev();
        newest_first.find_map(|generation| generation.contents.get(fingerprint))
    }

    /// The same for files that come in about the order of the records; see [`KnownContents::get_near`].
    pub(super) fn get_near(&self, fingerprint: &Fingerprint, near: &mut usize) -> Option<Contents> {
        let (newest, older) = self.generations.split_last()?;
        let found = newest.contents.get_near(fingerprint, near);
        found.or_else(|| {
            let mut newest_first = older.iter().rev();
            newest_first.find_map(|generation| generation.contents.get(fingerprint))
        })
    }

    /// An upper bound of the number of files whose contents are known.
    pub(super) fn len(&self) -> usize {
        let lens = self.generations.iter().map(|g| g.contents.record_count());
        lens.sum()
    }

    /// The records, the oldest first.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let generations = self.generations.iter();
        generations.flat_map(|generation| generation.contents.records())
    }

    /// Adds the files of a folder that is missing now.
    pub(super) fn add(&mut self, records: Vec<Record>, now: Instant) {
        if records.is_empty() {
            return;
        }
        let contents = KnownContents::from_records(records);
        for generation in &mut self.generations {
            generation
                .contents
                .retain(|(fingerprint, _)| contents.get(fingerprint).is_none());
        }
        self.push(contents, now);
        self.merge_newest();
        let mut earlier = self.len() - self.generations.last().map_or(0, Generation::len);
        while earlier > self.max_earlier {
            let oldest = self.generations.remove(0);
            earlier -= oldest.len();
        }
        self.remove_empty();
    }

    fn push(&mut self, contents: KnownContents, now: Instant) {
        if !contents.is_empty() {
            let since = (now, now);
            self.generations.push(Generation { since, contents });
        }
    }

    /// Merges generations that follow each other closely, as long as the older one is not much larger: files that are deleted
    /// one after another all day are in few generations, and each record is moved a few times.
    fn merge_newest(&mut self) {
        while let [.., older, newer] = &*self.generations {
            let span = newer.since.1.saturating_duration_since(older.since.0);
            let is_close = span < MERGED_WITHIN;
            if !is_close || older.len() > 2 * newer.len() {
                return;
            }
            let since = (older.since.0, newer.since.1);
            let records = older.contents.records().chain(newer.contents.records());
            let contents = KnownContents::from_records(records.collect());
            self.generations.truncate(self.generations.len() - 2);
            self.generations.push(Generation { since, contents });
        }
    }

    /// Removes the images that are listed again, and the other files that are known again.
    pub(super) fn remove_listed(
        &mut self,
        is_listed: impl Fn(ImageId) -> bool,
        is_other: impl Fn(&Fingerprint) -> bool,
    ) {
        for generation in &mut self.generations {
            generation
                .contents
                .retain(|(print, contents)| match *contents {
                    Contents::NOT_AN_IMAGE => !is_other(print),
                    Contents { id, .. } => !is_listed(id),
                });
        }
        self.remove_empty();
    }

    /// Removes the files that have been missing for too long.
    pub(super) fn expire(&mut self, now: Instant) {
        self.generations
            .retain(|generation| now.saturating_duration_since(generation.since.1) < KEEP_FOR);
    }

    fn remove_empty(&mut self) {
        self.generations.retain(|generation| generation.len() > 0);
    }
}

impl Generation {
    fn len(&self) -> usize {
        self.contents.record_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(file: u64, id: u64) -> Record {
        let contents = Contents {
            id: ImageId(id),
            sniffed: None,
            incompressible_at: 0,
        };
        (Fingerprint::sample(file), contents)
    }

    fn id(retained: &Retained, file: u64) -> Option<u64> {
        let contents = retained.get(&record(file, 0).0);
        contents.map(|contents| contents.id.0)
    }

    #[test]
    fn the_newest_contents_of_a_fingerprint_are_found_and_kept_once() {
        let now = Instant::now();
        let mut retained = Retained::new(KnownContents::default(), now);
        retained.add(vec![record(1, 10), record(2, 20)], now);
        retained.add(vec![record(1, 11)], now);
        assert_eq!((id(&retained, 1), id(&retained, 2)), (Some(11), Some(20)));
        assert_eq!(retained.len(), 2);
        let ids: Vec<u64> = retained
            .records()
            .map(|(_, contents)| contents.id.0)
            .collect();
        assert_eq!(ids, [20, 11]);
        retained.remove_listed(|id| id.0 == 20, |_| false);
        assert_eq!((id(&retained, 1), id(&retained, 2)), (Some(11), None));
        retained.add(Vec::new(), now);
        assert_eq!(retained.generations.len(), 1);
    }

    #[test]
    fn missing_files_are_forgotten_after_a_day_and_earlier_ones_beyond_the_limit() {
        let now = Instant::now();
        let mut retained = Retained::default();
        retained.add(vec![record(1, 10)], now);
        retained.expire(now + KEEP_FOR / 2);
        assert_eq!(id(&retained, 1), Some(10));
        retained.expire(now + KEEP_FOR);
        assert_eq!(retained.len(), 0);
        retained.max_earlier = 10;
        let many = 11;
        retained.add((0..many).map(|n| record(n, n)).collect(), now);
        assert_eq!(id(&retained, 5), Some(5), "the last folder is kept whole");
        retained.add(vec![record(many, 7)], now);
        assert_eq!((id(&retained, 5), id(&retained, many)), (None, Some(7)));
    }

    #[test]
    fn files_that_go_one_by_one_all_day_are_in_few_generations() {
        let now = Instant::now();
        let mut retained = Retained::default();
        let (count, pause) = (2_000, Duration::from_secs(10));
        for (file, n) in (0..count).zip(0..) {
            retained.add(vec![record(file, file)], now + pause * n);
        }
        let generations = retained.generations.len();
        assert!(generations < 60, "{generations}");
        for file in [0, 1, count / 2, count - 1] {
            assert_eq!(id(&retained, file), Some(file));
        }
        retained.expire(now + KEEP_FOR + MERGED_WITHIN);
        let ends = (id(&retained, 0), id(&retained, count - 1));
        assert_eq!(ends, (None, Some(count - 1)));
    }
}
