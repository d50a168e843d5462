//! DOS share reservations (NLM SHARE, UNSHARE; X/Open XNFS chapter 10): open modes and what they keep others
//! from, per file. They never meet byte-range locks. Few clients use them: plain ordered maps.

use std::collections::{BTreeMap, BTreeSet};

use super::types::{Access, ClientId, FileId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) access: Access,
    pub(super) deny: Access,
}

#[derive(Debug, Default)]
pub(super) struct Shares {
    by_file: BTreeMap<(FileId, ClientId, Box<[u8]>), Share>,
    by_client: BTreeSet<(ClientId, FileId, Box<[u8]>)>,
}

impl Shares {
    /// Whether somebody else's share forbids this one, or this one forbids somebody else's access.
    pub(super) fn conflict(&self, file: FileId, client: ClientId, oh: &[u8], want: Share) -> bool {
        self.of_file(file).any(|((_, c, o), s)| {
            (*c != client || **o != *oh) && (s.deny.meets(want.access) || want.deny.meets(s.access))
        })
    }

    pub(super) fn get(&self, file: FileId, client: ClientId, oh: &[u8]) -> Option<Share> {
        self.by_file.get(&(file, client, oh.into())).copied()
    }

    /// Adds or replaces; true if it is new.
    pub(super) fn set(&mut self, file: FileId, client: ClientId, oh: &[u8], share: Share) -> bool {
        self.by_client.insert((client, file, oh.into()));
        self.by_file.insert((file, client, oh.into()), share).is_none()
    }

    /// Removes; true if it was there.
    pub(super) fn remove(&mut self, file: FileId, client: ClientId, oh: &[u8]) -> bool {
        self.by_client.remove(&(client, file, oh.into()));
        self.by_file.remove(&(file, client, oh.into())).is_some()
    }

    /// Removes all of a client's; returns their files.
    pub(super) fn remove_client(&mut self, client: ClientId) -> Vec<FileId> {
        let mut files = Vec::new();
        while let Some(key) = self.by_client.range((client, FileId(0), Box::from([]))..).next().cloned() {
            if key.0 != client {
                break;
            }
            self.remove(key.1, client, &key.2);
            files.push(key.1);
        }
        files
    }

    /// Removes all of a file's; returns their clients.
    pub(super) fn remove_file(&mut self, file: FileId) -> Vec<ClientId> {
        let keys: Vec<_> = self.of_file(file).map(|((_, client, oh), _)| (*client, oh.clone())).collect();
        for (client, oh) in &keys {
            self.remove(file, *client, oh);
        }
        keys.into_iter().map(|(client, _)| client).collect()
    }

    /// File and client of each share; panics if the indexes disagree.
    #[cfg(any(test, fuzzing))]
    pub(super) fn check(&self) -> Vec<(FileId, ClientId)> {
        let by_client: BTreeSet<_> = self.by_file.keys().map(|(f, c, oh)| (*c, *f, oh.clone())).collect();
        assert_eq!(self.by_client, by_client);
        self.by_file.keys().map(|(f, c, _)| (*f, *c)).collect()
    }

    fn of_file(&self, file: FileId) -> impl Iterator<Item = (&(FileId, ClientId, Box<[u8]>), &Share)> {
        self.by_file.range((file, ClientId(0), Box::from([]))..).take_while(move |(k, _)| k.0 == file)
    }
}
