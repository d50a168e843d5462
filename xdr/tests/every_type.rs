//! Holds every generated type against samples that are made from the .x files without the generated code, and against
//! bytes that nobody would send in good faith.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests may panic too")]

use std::sync::LazyLock;

use lockferry_xdr::{Decode, DecodeError, Encode};
use lockferry_xdrgen::{Sampler, Source};
use proptest::prelude::*;

/// Decodes; what can be decoded must encode to the same bytes, for XDR has one form for each value.
fn there_and_back<'a, T: Decode<'a> + Encode>(bytes: &'a [u8]) -> Result<(), DecodeError> {
    let value = T::from_bytes(bytes)?;
    assert_eq!(value.to_bytes(), bytes);
    Ok(())
}

/// Where the generated code of `shapes` looks for the codec.
mod codec {
    pub(crate) use lockferry_xdr::{Decode, DecodeError, Encode, Reader, Writer};
}

#[allow(missing_docs, unreachable_pub, dead_code, reason = "one of everything, for the tests only")]
#[path = "shapes/src/generated/mod.rs"]
mod shapes_generated;

#[test]
fn the_committed_shapes_are_what_the_generator_makes() {
    // `cargo run -p lockferry-xdrgen -- xdr/tests/shapes` mends it.
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shapes");
    lockferry_xdrgen::check(&dir).unwrap();
}

struct Case {
    name: &'static str,
    run: fn(&[u8]) -> Result<(), DecodeError>,
}

macro_rules! protocol {
    ($module:ident from $types:path, $x:literal: $($name:ident)*) => {
        mod $module {
            use super::*;
            use $types as types;

            const CASES: &[Case] = &[$(Case {
                name: stringify!($name),
                run: |bytes| there_and_back::<types::$name>(bytes),
            }),*];

            static SOURCE: LazyLock<Source> = LazyLock::new(|| {
                Source::parse(include_str!($x)).unwrap()
            });
            static SAMPLER: LazyLock<Sampler<'static>> = LazyLock::new(|| SOURCE.sampler().unwrap());

            #[test]
            fn no_type_is_left_out() {
                let mut have: Vec<&str> = CASES.iter().map(|c| c.name).collect();
                let mut want = SAMPLER.types();
                have.sort_unstable();
                want.sort_unstable();
                assert_eq!(have, want);
            }

            proptest! {
                #![proptest_config(ProptestConfig::with_cases(64))]

                #[test]
                fn valid_bytes_go_there_and_back(entropy in entropy()) {
                    for case in CASES {
                        let bytes = sample(&SAMPLER, case, &entropy);
                        prop_assert_eq!((case.run)(&bytes), Ok(()), "{} {:?}", case.name, bytes);
                    }
                }

                #[test]
                fn bytes_cut_short_or_too_long_are_refused(entropy in entropy(), at in any::<prop::sample::Index>()) {
                    for case in CASES {
                        let mut bytes = sample(&SAMPLER, case, &entropy);
                        let cut = at.index(bytes.len());
                        prop_assert!((case.run)(&bytes[..cut]).is_err(), "{} {:?} cut at {}", case.name, bytes, cut);
                        bytes.push(0);
                        prop_assert!((case.run)(&bytes).is_err(), "{} {:?}", case.name, bytes);
                    }
                }

                #[test]
                fn damaged_bytes_never_panic(
                    entropy in entropy(),
                    damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
                ) {
                    for case in CASES {
                        let mut bytes = sample(&SAMPLER, case, &entropy);
                        for (at, value) in &damage {
                            let at = at.index(bytes.len());
                            bytes[at] = *value;
                        }
                        let _ = (case.run)(&bytes);
                    }
                }

                #[test]
                fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
                    for case in CASES {
                        let _ = (case.run)(&bytes);
                    }
                }

                #[test]
                fn random_small_words_never_panic(words in prop::collection::vec(0u32..6, 0..128)) {
                    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
                    for case in CASES {
                        let _ = (case.run)(&bytes);
                    }
                }
            }
        }
    };
}

fn entropy() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(any::<u64>(), 0..200)
}

/// Zeros follow when the entropy is used up: the smallest choices.
fn sample(sampler: &Sampler<'_>, case: &Case, entropy: &[u64]) -> Vec<u8> {
    let mut numbers = entropy.iter().copied();
    sampler.sample(case.name, &mut || numbers.next().unwrap_or(0)).unwrap()
}

protocol!(rpc from lockferry_xdr::rpc, "../x/rpc.x":
    AcceptStat AcceptedReply AuthStat AuthsysParms CallBody MismatchInfo MsgType OpaqueAuth RejectStat
    RejectedReply ReplyBody ReplyData ReplyStat RpcMsg RpcMsgBody);

protocol!(portmap from lockferry_xdr::portmap, "../x/portmap.x":
    CallArgs CallResult Mapping Netbuf Pmaplist Rpcb RpcbEntry RpcbEntryList RpcbRmtcallargs
    RpcbRmtcallres Rpcblist);

protocol!(mount from lockferry_xdr::mount, "../x/mount.x":
    Exportnode Fhstatus Groupnode Mountbody Mountres3 Mountres3Ok Mountstat3);

protocol!(nsm from lockferry_xdr::nsm, "../x/nsm.x":
    Mon MonId MyId SmName SmRes SmStat SmStatRes SmStatus StatChge);

protocol!(nlm from lockferry_xdr::nlm, "../x/nlm.x":
    FshAccess FshMode Nlm4Cancargs Nlm4Holder Nlm4Lock Nlm4Lockargs Nlm4Notify Nlm4Res Nlm4Share
    Nlm4Shareargs Nlm4Shareres Nlm4Stat Nlm4Stats Nlm4Testargs Nlm4Testres Nlm4Testrply Nlm4Unlockargs NlmCancargs
    NlmHolder NlmLock NlmLockargs NlmNotify NlmRes NlmShare NlmShareargs NlmShareres NlmSmStatus NlmStat NlmStats
    NlmTestargs NlmTestres NlmTestrply NlmUnlockargs);

protocol!(nfs3 from lockferry_xdr::nfs3, "../x/nfs3.x":
    Access3args Access3res Access3resfail Access3resok Commit3args Commit3res Commit3resfail
    Commit3resok Create3args Create3res Create3resfail Create3resok Createhow3 Createmode3 Devicedata3 Dirlist3
    Dirlistplus3 Diropargs3 Entry3 Entryplus3 Fattr3 Fsinfo3args Fsinfo3res Fsinfo3resfail Fsinfo3resok Fsstat3args
    Fsstat3res Fsstat3resfail Fsstat3resok Ftype3 Getattr3args Getattr3res Getattr3resok Link3args Link3res
    Link3resfail Link3resok Lookup3args Lookup3res Lookup3resfail Lookup3resok Mkdir3args Mkdir3res Mkdir3resfail
    Mkdir3resok Mknod3args Mknod3res Mknod3resfail Mknod3resok Mknoddata3 NfsFh3 Nfsstat3 Nfstime3 Pathconf3args
    Pathconf3res Pathconf3resfail Pathconf3resok PostOpAttr PostOpFh3 PreOpAttr Read3args Read3res Read3resfail
    Read3resok Readdir3args Readdir3res Readdir3resfail Readdir3resok Readdirplus3args Readdirplus3res
    Readdirplus3resfail Readdirplus3resok Readlink3args Readlink3res Readlink3resfail Readlink3resok Remove3args
    Remove3res Remove3resfail Remove3resok Rename3args Rename3res Rename3resfail Rename3resok Rmdir3args Rmdir3res
    Rmdir3resfail Rmdir3resok Sattr3 Sattrguard3 SetAtime SetGid3 SetMode3 SetMtime SetSize3 SetUid3 Setattr3args
    Setattr3res Setattr3resfail Setattr3resok Specdata3 StableHow Symlink3args Symlink3res Symlink3resfail
    Symlink3resok Symlinkdata3 TimeHow WccAttr WccData Write3args Write3res Write3resfail Write3resok);

protocol!(shapes from crate::shapes_generated::shapes, "shapes/x/shapes.x":
    Chain En G Node S U1 U2 U3 U3Deep U4 U5);
