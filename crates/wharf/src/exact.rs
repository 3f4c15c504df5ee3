//! Paths without parameters, found by their bytes.
//!
//! Of all paths that match, one without parameters wins; so a path that is found here needs no
//! further search, nor to be looked at as text. What a path leads to is not known here.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Paths, each with the number of what it leads to.
#[derive(Default)]
pub(crate) struct Exact(HashMap<Box<[u8]>, usize, BuildHasherDefault<PathHasher>>);

impl Exact {
    /// Adds a path, if it has no parameters.
    pub(crate) fn insert(&mut self, path: &str, number: usize) {
        // Braces that are meant as such are written twice; such paths are left to others too.
        if !path.contains(['{', '}']) {
            self.0.insert(path.as_bytes().into(), number);
        }
    }

    #[inline]
    pub(crate) fn find(&self, path: &[u8]) -> Option<usize> {
        self.0.get(path).copied()
    }
}

/// A few instructions a word. Nobody from outside puts a path into the table, so nobody can fill it
/// with paths whose hashes are equal.
#[derive(Default)]
struct PathHasher(u64);

/// Odd, with its bits all over the word: 2^64 divided by the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl PathHasher {
    #[inline]
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    }
}

impl Hasher for PathHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.add(u64::from_le_bytes(*word)));
        if let Some(last) = bytes.last_chunk::<8>() {
            // Some bytes count twice, which does no harm.
            return self.add(u64::from_le_bytes(*last));
        }
        rest.iter().for_each(|&byte| self.add(u64::from(byte)));
    }

    #[inline]
    fn write_usize(&mut self, length: usize) {
        self.add(length as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        // The table takes its place from the low bits and tells apart by the high ones.
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_found_and_no_other() {
        let mut exact = Exact::default();
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
    fn hashes_are_spread() {
        let hash = |path: String| {
            let mut hasher = PathHasher::default();
            hasher.write(path.as_bytes());
            hasher.finish()
        };
        let low: std::collections::HashSet<u64> =
            (0..1024).map(|n| hash(format!("/users/{n}/orders")) % 4096).collect();
        // 1,024 balls in 4,096 boxes leave about 906 of these taken.
        assert!(low.len() > 800, "{}", low.len());
    }
}
