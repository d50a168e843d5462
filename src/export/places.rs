//! Under which name a file was last seen: for showing paths, and for finding files again where handles
//! cannot be opened. From memory only; what it says may be out of date and must be verified by its user.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::FileKey;

/// Names remembered, about 200 bytes each: 40 MB at the most.
const MAX_PLACES: usize = 200_000;
/// Directories a path may be deep. A longer chain is taken for a loop of outdated names.
const MAX_DEPTH: usize = 256;

#[derive(Clone)]
struct Place {
    parent: Arc<FileKey>,
    name: Box<[u8]>,
}

/// The table. Two generations: what was not asked for while half the table filled up is forgotten.
#[derive(Default)]
pub(super) struct Places {
    inner: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    young: HashMap<FileKey, Place>,
    old: HashMap<FileKey, Place>,
    /// The directories of exports: where paths begin.
    roots: Vec<(FileKey, PathBuf)>,
}

impl Generations {
    fn get(&mut self, key: &FileKey) -> Option<&Place> {
        if let Some((key, place)) = self.old.remove_entry(key) {
            self.put(key, place);
        }
        self.young.get(key)
    }

    fn put(&mut self, key: FileKey, place: Place) {
        if self.young.len() >= MAX_PLACES / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, place);
    }
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, Generations> {
        // A panic cannot leave the maps half changed: each change is one call on a map.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `path` is the directory of an export and its key is `key`.
    pub(super) fn set_root(&self, key: FileKey, path: &Path) {
        let mut inner = self.lock();
        inner.roots.retain(|(_, known)| known != path);
        inner.roots.push((key, path.to_owned()));
    }

    /// Notes that `key` was seen as `name` in `parent`.
    pub(super) fn remember(&self, key: FileKey, parent: &Arc<FileKey>, name: &[u8]) {
        let mut inner = self.lock();
        if let Some(known) = inner.young.get(&key)
            && known.parent == *parent
            && *known.name == *name
        {
            return;
        }
        inner.old.remove(&key);
        inner.put(key, Place { parent: parent.clone(), name: name.into() });
    }

    /// Forgets `key` if it is still noted under this name.
    pub(super) fn forget(&self, key: &FileKey, parent: &FileKey, name: &[u8]) {
        let mut inner = self.lock();
        if inner.get(key).is_some_and(|place| *place.parent == *parent && *place.name == *name) {
            inner.young.remove(key);
        }
    }

    /// The names from the directory `root` down to `key`. Empty for the root itself.
    pub(super) fn below(&self, root: &FileKey, key: &FileKey) -> Option<PathBuf> {
        self.climb(key, |at, _| (at == root).then(PathBuf::new))
    }

    /// The path of `key`, through the longest export path that leads to it.
    pub(super) fn path(&self, key: &FileKey) -> Option<PathBuf> {
        self.climb(key, |at, roots| roots.iter().find(|(root, _)| root == at).map(|(_, path)| path.clone()))
    }

    fn climb(
        &self,
        key: &FileKey,
        stop: impl Fn(&FileKey, &[(FileKey, PathBuf)]) -> Option<PathBuf>,
    ) -> Option<PathBuf> {
        use std::os::unix::ffi::OsStrExt;
        let mut inner = self.lock();
        let mut names: Vec<Box<[u8]>> = Vec::new();
        let mut at = key.clone();
        for _ in 0..MAX_DEPTH {
            if let Some(start) = stop(&at, &inner.roots) {
                let mut path = start;
                path.extend(names.iter().rev().map(|name| std::ffi::OsStr::from_bytes(name)));
                return Some(path);
            }
            let place = inner.get(&at)?;
            names.push(place.name.clone());
            at = FileKey::clone(&place.parent);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> FileKey {
        FileKey(n.to_be_bytes().into())
    }

    #[test]
    fn a_path_is_put_together_from_its_names() {
        let places = Places::default();
        places.set_root(key(1), Path::new("/srv"));
        places.remember(key(2), &Arc::new(key(1)), b"dir");
        places.remember(key(3), &Arc::new(key(2)), b"file");
        assert_eq!(places.path(&key(3)).unwrap(), Path::new("/srv/dir/file"));
        assert_eq!(places.below(&key(1), &key(3)).unwrap(), Path::new("dir/file"));
        assert_eq!(places.path(&key(1)).unwrap(), Path::new("/srv"));
        places.remember(key(2), &Arc::new(key(1)), b"renamed");
        assert_eq!(places.path(&key(3)).unwrap(), Path::new("/srv/renamed/file"));
        places.forget(&key(2), &key(1), b"dir");
        assert!(places.path(&key(3)).is_some());
        places.forget(&key(2), &key(1), b"renamed");
        assert_eq!(places.path(&key(3)), None);
    }

    #[test]
    fn a_loop_of_outdated_names_ends() {
        let places = Places::default();
        places.remember(key(2), &Arc::new(key(3)), b"a");
        places.remember(key(3), &Arc::new(key(2)), b"b");
        assert_eq!(places.path(&key(2)), None);
    }

    #[test]
    fn the_table_is_bounded_and_keeps_what_is_asked_for() {
        let places = Places::default();
        let root = Arc::new(key(1));
        places.set_root(key(1), Path::new("/srv"));
        for n in 2..(MAX_PLACES as u32 * 2) {
            places.remember(key(n), &root, b"x");
            assert!(n % 50_000 != 0 || places.path(&key(2)).is_some());
        }
        let inner = places.lock();
        assert!(inner.young.len() + inner.old.len() <= MAX_PLACES);
    }
}
