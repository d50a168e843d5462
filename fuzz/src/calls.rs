//! What each procedure takes and gives, by the protocol files. Must never be taken from the programs themselves: it is what they are
//! held against.

use std::sync::LazyLock;

use lockferry_xdr::{DecodeError, Reader, mount, portmap};

use crate::types;

/// What a procedure gives.
#[derive(Clone, Copy)]
pub enum Results {
    /// Nothing.
    Void,
    /// A number or a bool.
    Word,
    /// A type.
    Type(&'static str),
    /// A list or a text.
    List(fn(&mut Reader<'_>) -> Result<(), DecodeError>),
}

/// A procedure.
#[derive(Clone, Copy)]
pub struct Procedure {
    /// The protocol file's name.
    pub module: &'static str,
    /// Program number.
    pub program: u32,
    /// Version.
    pub version: u32,
    /// Number.
    pub number: u32,
    /// The type of its arguments; empty: none, `dirpath`: a path.
    pub takes: &'static str,
    /// Its results.
    pub gives: Results,
}

const fn row(
    (module, program, version): (&'static str, u32, u32),
    number: u32,
    takes: &'static str,
    gives: Results,
) -> Procedure {
    Procedure { module, program, version, number, takes, gives }
}

use Results::{List, Type, Void, Word};

const NSM: (&str, u32, u32) = ("nsm", 100_024, 1);
const MOUNT1: (&str, u32, u32) = ("mount", 100_005, 1);
const MOUNT3: (&str, u32, u32) = ("mount", 100_005, 3);
const PMAP2: (&str, u32, u32) = ("portmap", 100_000, 2);
const NFS3: (&str, u32, u32) = ("nfs3", 100_003, 3);

const MOUNTS: Results = List(|r| mount::decode_mountlist(r).map(drop));
const EXPORTS: Results = List(|r| mount::decode_exports(r).map(drop));
const TEXT: Results = List(|r| portmap::decode_rpcb_string(r).map(drop));

/// The procedures of all programs but NLM.
const OTHERS: &[Procedure] = &[
    row(NSM, 1, "SmName", Type("SmStatRes")),
    row(NSM, 2, "Mon", Type("SmStatRes")),
    row(NSM, 3, "MonId", Type("SmStat")),
    row(NSM, 4, "MyId", Type("SmStat")),
    row(NSM, 5, "", Void),
    row(NSM, 6, "StatChge", Void),
    row(MOUNT1, 2, "", MOUNTS),
    row(MOUNT1, 3, "dirpath", Void),
    row(MOUNT1, 4, "", Void),
    row(MOUNT1, 5, "", EXPORTS),
    row(MOUNT1, 6, "", EXPORTS),
    row(MOUNT3, 1, "dirpath", Type("Mountres3")),
    row(MOUNT3, 2, "", MOUNTS),
    row(MOUNT3, 3, "dirpath", Void),
    row(MOUNT3, 4, "", Void),
    row(MOUNT3, 5, "", EXPORTS),
    row(PMAP2, 1, "Mapping", Word),
    row(PMAP2, 2, "Mapping", Word),
    row(PMAP2, 3, "Mapping", Word),
    row(PMAP2, 4, "", List(|r| portmap::decode_pmaplist_ptr(r).map(drop))),
    row(NFS3, 1, "Getattr3args", Type("Getattr3res")),
    row(NFS3, 2, "Setattr3args", Type("Setattr3res")),
    row(NFS3, 3, "Lookup3args", Type("Lookup3res")),
    row(NFS3, 4, "Access3args", Type("Access3res")),
    row(NFS3, 5, "Readlink3args", Type("Readlink3res")),
    row(NFS3, 6, "Read3args", Type("Read3res")),
    row(NFS3, 7, "Write3args", Type("Write3res")),
    row(NFS3, 8, "Create3args", Type("Create3res")),
    row(NFS3, 9, "Mkdir3args", Type("Mkdir3res")),
    row(NFS3, 10, "Symlink3args", Type("Symlink3res")),
    row(NFS3, 11, "Mknod3args", Type("Mknod3res")),
    row(NFS3, 12, "Remove3args", Type("Remove3res")),
    row(NFS3, 13, "Rmdir3args", Type("Rmdir3res")),
    row(NFS3, 14, "Rename3args", Type("Rename3res")),
    row(NFS3, 15, "Link3args", Type("Link3res")),
    row(NFS3, 16, "Readdir3args", Type("Readdir3res")),
    row(NFS3, 17, "Readdirplus3args", Type("Readdirplus3res")),
    row(NFS3, 18, "Fsstat3args", Type("Fsstat3res")),
    row(NFS3, 19, "Fsinfo3args", Type("Fsinfo3res")),
    row(NFS3, 20, "Pathconf3args", Type("Pathconf3res")),
    row(NFS3, 21, "Commit3args", Type("Commit3res")),
];

/// Every procedure but NULL, of every program and version.
pub static PROCEDURES: LazyLock<Vec<Procedure>> = LazyLock::new(all);

fn all() -> Vec<Procedure> {
    let mut all = OTHERS.to_vec();
    for version in [3, 4] {
        let of = ("portmap", 100_000, version);
        all.extend([1, 2].map(|n| row(of, n, "Rpcb", Word)));
        all.push(row(of, 3, "Rpcb", TEXT));
        all.push(row(of, 4, "", List(|r| portmap::decode_rpcblist_ptr(r).map(drop))));
        all.push(row(of, 6, "", Word));
    }
    let of = ("portmap", 100_000, 4);
    all.push(row(of, 9, "Rpcb", TEXT));
    all.push(row(of, 11, "Rpcb", List(|r| portmap::decode_rpcb_entry_list_ptr(r).map(drop))));
    for version in [1, 3, 4] {
        nlm(version, &mut all);
    }
    all
}

fn nlm(version: u32, all: &mut Vec<Procedure>) {
    let of = ("nlm", 100_021, version);
    let pick = |wide, narrow| if version == 4 { wide } else { narrow };
    let (test, lock) = (pick("Nlm4Testargs", "NlmTestargs"), pick("Nlm4Lockargs", "NlmLockargs"));
    let (cancel, unlock) = (pick("Nlm4Cancargs", "NlmCancargs"), pick("Nlm4Unlockargs", "NlmUnlockargs"));
    let (res, testres) = (pick("Nlm4Res", "NlmRes"), pick("Nlm4Testres", "NlmTestres"));
    let args = [test, lock, cancel, unlock, test];
    for (n, takes) in (1..).zip(args) {
        all.push(row(of, n, takes, Type(if n == 1 { testres } else { res })));
        all.push(row(of, n + 5, takes, Void));
        all.push(row(of, n + 10, if n == 1 { testres } else { res }, Void));
    }
    all.push(row(of, 16, "NlmSmStatus", Void));
    if version > 1 {
        let (share, shared) = (pick("Nlm4Shareargs", "NlmShareargs"), pick("Nlm4Shareres", "NlmShareres"));
        all.push(row(of, 20, share, Type(shared)));
        all.push(row(of, 21, share, Type(shared)));
        all.push(row(of, 22, lock, Type(res)));
        all.push(row(of, 23, pick("Nlm4Notify", "NlmNotify"), Void));
    }
}

/// Checks that results are what the procedure gives.
///
/// # Panics
/// They are not, or there is no such procedure.
pub fn check_results(program: u32, version: u32, number: u32, results: &[u8]) {
    if number == 0 {
        assert!(results.is_empty(), "NULL gives nothing");
        return;
    }
    let same = |p: &Procedure| (p.program, p.version, p.number) == (program, version, number);
    let procedure = PROCEDURES.iter().find(|p| same(p)).expect("only procedures that exist succeed");
    let mut r = Reader::new(results);
    let read = match procedure.gives {
        Void => r.finish(),
        Word => r.u32().and_then(|_| r.finish()),
        List(read) => read(&mut r).and_then(|()| r.finish()),
        Type(name) => {
            let of = types::find(procedure.module, name).expect("the table names types that exist");
            (of.run)(results)
        }
    };
    assert_eq!(read, Ok(()), "results of {program} version {version} procedure {number}: {results:02x?}");
}

/// Checks that arguments are what the procedure takes.
///
/// # Panics
/// They are not, or there is no such procedure.
pub fn check_arguments(program: u32, version: u32, number: u32, args: &[u8]) {
    let same = |p: &Procedure| (p.program, p.version, p.number) == (program, version, number);
    let procedure = PROCEDURES.iter().find(|p| same(p)).expect("only procedures that exist are called");
    let of = types::find(procedure.module, procedure.takes).expect("the table names types that exist");
    assert_eq!(
        (of.run)(args),
        Ok(()),
        "arguments of {program} version {version} procedure {number}: {args:02x?}"
    );
}
