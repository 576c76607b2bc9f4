//! Places that a sequence may go back to, and what its caches need for it.

/// A place, as a number of tokens.
#[derive(Debug, Clone)]
struct Mark {
    len: usize,
    /// Taken when the caches are about to lose what it needs.
    snapshot: Option<Vec<u8>>,
}

/// The marks of one sequence, the shortest first.
#[derive(Debug, Clone, Default)]
pub struct Marks(Vec<Mark>);

impl Marks {
    /// More would take more memory than the caches save.
    const MOST: usize = 2;

    /// Marks `len`. Of too many the first stays, where a program has its fixed prompt, and the last
    /// ones.
    pub fn add(&mut self, len: usize) {
        let place = self.0.partition_point(|mark| mark.len < len);
        if len == 0 || self.0.get(place).is_some_and(|mark| mark.len == len) {
            return;
        }
        self.0.insert(place, Mark { len, snapshot: None });
        if self.0.len() > Marks::MOST {
            self.0.remove(1);
        }
    }

    /// Drops the marks beyond `len`: other tokens will come there.
    pub fn truncate(&mut self, len: usize) {
        self.0.retain(|mark| mark.len <= len);
    }

    /// The longest place with a snapshot.
    pub fn last_snapshot(&self) -> Option<(usize, &[u8])> {
        self.0.iter().rev().find_map(|mark| Some((mark.len, mark.snapshot.as_deref()?)))
    }

    /// The first mark beyond `len`.
    pub fn next(&self, len: usize) -> Option<usize> {
        self.0.iter().map(|mark| mark.len).find(|mark| *mark > len)
    }

    /// Has `take` make a snapshot of each mark up to `len` tokens that is under `reach` and has
    /// none.
    pub fn keep(&mut self, len: usize, reach: usize, mut take: impl FnMut(usize) -> Vec<u8>) {
        let marks = self.0.iter_mut().take_while(|mark| mark.len <= len && mark.len < reach);
        for mark in marks.filter(|mark| mark.snapshot.is_none()) {
            mark.snapshot = Some(take(mark.len));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(marks: &Marks) -> Vec<(usize, bool)> {
        marks.0.iter().map(|mark| (mark.len, mark.snapshot.is_some())).collect()
    }

    #[test]
    fn the_first_and_the_latest_stay() {
        let mut marks = Marks::default();
        for len in [0, 10, 10, 20, 30] {
            marks.add(len);
        }
        assert_eq!(places(&marks), [(10, false), (30, false)]);
        assert_eq!(
            [0, 10, 29, 30].map(|len| marks.next(len)),
            [Some(10), Some(30), Some(30), None]
        );
        marks.truncate(29);
        assert_eq!(places(&marks), [(10, false)]);
    }

    #[test]
    fn snapshots_are_taken_when_they_must() {
        let mut marks = Marks::default();
        marks.add(10);
        marks.add(30);
        marks.keep(29, 10, |_| panic!("within reach"));
        assert!(marks.last_snapshot().is_none());
        marks.keep(29, 40, |len| vec![len as u8]);
        assert_eq!(places(&marks), [(10, true), (30, false)]);
        assert_eq!(marks.last_snapshot(), Some((10, &[10][..])));
        marks.keep(30, 40, |len| vec![len as u8]);
        assert_eq!(marks.last_snapshot(), Some((30, &[30][..])));
        marks.truncate(9);
        assert!(marks.last_snapshot().is_none());
    }
}
