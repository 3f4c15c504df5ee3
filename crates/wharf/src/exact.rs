//! Paths without parameters, found by their bytes.
//!
//! Of all paths that match, one without parameters wins; so a path that is found here needs no
//! further search, nor to be looked at as text. What a path leads to is not known here.

/// Paths, each with the number of what it leads to: a table of places that are three quarters empty,
/// where a path stands at the place that its hash names or at the next free one.
#[derive(Default)]
pub(crate) struct Exact {
    /// A power of two of them, or none.
    places: Box<[Option<Entry>]>,
    count: usize,
}

struct Entry {
    ends: Ends,
    path: Box<[u8]>,
    number: usize,
}

/// Places for each path, so that most are found at the first look.
const PLACES_PER_PATH: usize = 4;

impl Exact {
    /// Adds a path, if it has no parameters. No path is added twice.
    pub(crate) fn insert(&mut self, path: &str, number: usize) {
        // Braces that are meant as such are written twice; such paths are left to others too.
        if path.contains(['{', '}']) {
            return;
        }
        self.count += 1;
        if self.count * PLACES_PER_PATH > self.places.len() {
            let places = (self.count * PLACES_PER_PATH).next_power_of_two();
            let empty = std::iter::repeat_with(|| None).take(places).collect();
            let old = std::mem::replace(&mut self.places, empty);
            old.into_iter().flatten().for_each(|entry| self.place(entry));
        }
        let path: Box<[u8]> = path.as_bytes().into();
        self.place(Entry { ends: Ends::of(&path), path, number });
    }

    fn place(&mut self, entry: Entry) {
        let mut at = entry.ends.hash(&entry.path) as usize;
        loop {
            at &= self.places.len() - 1;
            match &mut self.places[at] {
                Some(_) => at += 1,
                free => break *free = Some(entry),
            }
        }
    }

    #[inline(always)]
    pub(crate) fn find(&self, path: &[u8]) -> Option<usize> {
        let ends = Ends::of(path);
        let mut at = ends.hash(path) as usize;
        loop {
            at &= self.places.len().wrapping_sub(1);
            let entry = self.places.get(at)?.as_ref()?;
            if entry.ends == ends && (path.len() <= Ends::WHOLE || *entry.path == *path) {
                return Some(entry.number);
            }
            at += 1;
        }
    }
}

/// How long a path is, and what stands at its two ends.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ends {
    len: usize,
    first: u64,
    last: u64,
}

impl Ends {
    /// Paths up to this length are nothing but their ends.
    const WHOLE: usize = 16;

    #[inline(always)]
    fn of(path: &[u8]) -> Ends {
        let half = |at: usize| path[at..].first_chunk().map_or(0, |half| u32::from_le_bytes(*half));
        let len = path.len();
        // Some bytes count twice, which does no harm.
        let (first, last) = match len {
            8.. => (word(path, 0), word(path, len - 8)),
            4.. => (u64::from(half(0)), u64::from(half(len - 4))),
            1.. => (u64::from(path[0]), u64::from(path[len / 2]) << 8 | u64::from(path[len - 1])),
            0 => (0, 0),
        };
        Ends { len, first, last }
    }

    /// The path's hash, for a few instructions a word. Nobody from outside puts a path into the
    /// table, so nobody can fill it with paths whose hashes are equal.
    #[inline(always)]
    fn hash(self, path: &[u8]) -> u64 {
        let mut sum = mixed(self.first ^ self.len as u64, self.last);
        if self.len > Ends::WHOLE {
            sum = (8..self.len - 8).step_by(8).fold(sum, |sum, at| mixed(sum, word(path, at)));
        }
        // The place is taken from the low bits, and the high ones are spread best.
        sum >> 32
    }
}

/// Odd, with its bits all over the word: 2^64 divided by the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline(always)]
fn word(path: &[u8], at: usize) -> u64 {
    path[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}

#[inline(always)]
fn mixed(sum: u64, word: u64) -> u64 {
    (sum.rotate_left(29) ^ word).wrapping_mul(FACTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_found_and_no_other() {
        let mut exact = Exact::default();
        assert_eq!(exact.find(b"/"), None);
        let paths: Vec<String> = (0..500)
            .flat_map(|n| [format!("/{n}"), format!("/orders/{n}"), format!("/a/b/c/d/e/f/{n}/g")])
            .chain(["/".to_owned(), "*".to_owned(), String::new()])
            .collect();
        for (number, path) in paths.iter().enumerate() {
            exact.insert(path, number);
        }
        for (number, path) in paths.iter().enumerate() {
            assert_eq!(exact.find(path.as_bytes()), Some(number), "{path}");
        }
        for other in ["/500", "/orders/", "/orders", "//", "/a/b/c/d/e/f/7/G", "/0\0"] {
            assert_eq!(exact.find(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn paths_with_parameters_or_braces_are_not_for_this() {
        let mut exact = Exact::default();
        for path in ["/users/{id}", "/files/{*rest}", "/{{literal}}"] {
            exact.insert(path, 0);
            assert_eq!(exact.find(path.as_bytes()), None);
        }
    }

    #[test]
    fn each_byte_counts() {
        for len in 1..40 {
            let path = vec![b'a'; len];
            let mut exact = Exact::default();
            exact.insert(std::str::from_utf8(&path).unwrap(), 0);
            assert_eq!(exact.find(&path), Some(0));
            for at in 0..len {
                let mut other = path.clone();
                other[at] = b'b';
                assert_eq!(exact.find(&other), None, "{at} of {len}");
                let (one, another) = (Ends::of(&path).hash(&path), Ends::of(&other).hash(&other));
                assert_ne!(one, another, "{at} of {len}");
            }
        }
    }

    #[test]
    fn hashes_are_spread() {
        let hash = |path: &str| Ends::of(path.as_bytes()).hash(path.as_bytes());
        let low: std::collections::HashSet<u64> =
            (0..1024).map(|n| hash(&format!("/users/{n}/orders")) % 4096).collect();
        // 1,024 balls in 4,096 boxes leave about 906 of these taken.
        assert!(low.len() > 800, "{}", low.len());
    }
}
