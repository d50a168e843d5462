//! Messages byte by byte, written down from the specifications and not by our own code.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests may panic too")]

use lockferry_xdr::nfs3::{
    Dirlist3, Entry3, Fattr3, Ftype3, Nfsstat3, Nfstime3, PostOpAttr, Readdir3res, Readdir3resok, Specdata3,
};
use lockferry_xdr::nlm::{Nlm4Holder, Nlm4Lock, Nlm4Lockargs, Nlm4Stats, Nlm4Testres, Nlm4Testrply};
use lockferry_xdr::nsm::StatChge;
use lockferry_xdr::portmap::{IPPROTO_UDP, Mapping};
use lockferry_xdr::rpc::{
    AUTH_SYS, AcceptedReply, AuthsysParms, CallBody, MismatchInfo, OpaqueAuth, ReplyBody, ReplyData, RpcMsg,
    RpcMsgBody,
};
use lockferry_xdr::{Decode, Encode, mount, nfs3, nlm, nsm, portmap};

/// Bytes from hexadecimal; spaces and line ends are only for the eye.
fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    assert!(digits.len().is_multiple_of(2));
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
}

fn is<'a, T>(value: &T, bytes: &'a [u8])
where
    T: Decode<'a> + Encode + PartialEq + std::fmt::Debug,
{
    assert_eq!(value.to_bytes(), bytes);
    assert_eq!(&T::from_bytes(bytes).unwrap(), value);
}

#[test]
fn lock_of_nlm_4() {
    let bytes = hex("00000004 0a0b0c0d
         00000001 00000001
         00000005 616c696365 000000
         00000008 0102030405060708
         00000007 33406c6f63616c 00
         00000003
         0000000100000002 0000000000000000
         00000000 00000005");
    let value = Nlm4Lockargs {
        cookie: &[10, 11, 12, 13],
        block: true,
        exclusive: true,
        alock: Nlm4Lock {
            caller_name: b"alice",
            fh: &[1, 2, 3, 4, 5, 6, 7, 8],
            oh: b"3@local",
            svid: 3,
            l_offset: 0x1_0000_0002,
            l_len: 0,
        },
        reclaim: false,
        state: 5,
    };
    is(&value, &bytes);
}

#[test]
fn a_holder_stands_in_a_denied_test_only() {
    let denied =
        hex("00000001 ff000000 00000001 00000001 fffffffe 00000000 0000000000000010 ffffffffffffffff");
    let holder = Nlm4Holder { exclusive: true, svid: -2, oh: b"", l_offset: 16, l_len: u64::MAX };
    is(&Nlm4Testres { cookie: &[255], stat: Nlm4Testrply::Nlm4Denied(holder) }, &denied);
    let granted = hex("00000001 ff000000 00000000");
    is(&Nlm4Testres { cookie: &[255], stat: Nlm4Testrply::Default(Nlm4Stats::Nlm4Granted) }, &granted);
}

#[test]
fn sm_notify() {
    let bytes = hex("00000007 31302e302e302e 00 66554433");
    is(&StatChge { mon_name: b"10.0.0.", state: 0x6655_4433 }, &bytes);
}

#[test]
fn getport() {
    let bytes = hex("000186b5 00000004 00000011 00000000");
    is(&Mapping { prog: nlm::NLM_PROG, vers: nlm::NLM4_VERS, prot: IPPROTO_UDP, port: 0 }, &bytes);
}

#[test]
fn a_dump_is_a_chain_of_mappings() {
    let bytes = hex("00000001 000186a0 00000002 00000006 0000006f
         00000001 000186a0 00000002 00000011 0000006f
         00000000");
    let mut r = lockferry_xdr::Reader::new(&bytes);
    let list = portmap::decode_pmaplist_ptr(&mut r).unwrap();
    r.finish().unwrap();
    let ports: Vec<(u32, u32)> = list.iter().map(|e| (e.map.prot, e.map.port)).collect();
    assert_eq!(ports, [(6, 111), (17, 111)]);
    let mut out = Vec::new();
    portmap::encode_pmaplist_ptr(&list, &mut lockferry_xdr::Writer::new(&mut out));
    assert_eq!(out, bytes);
}

#[test]
fn auth_sys_in_a_call() {
    let bytes = hex("01020304 00000000
         00000002 000186a3 00000003 00000001
         00000001 00000024
           00000000 00000006 636c69656e74 0000 000003e8 00000064 00000002 00000064 0000001b
         00000000 00000000");
    let parms = AuthsysParms { stamp: 0, machinename: b"client", uid: 1000, gid: 100, gids: vec![100, 27] }
        .to_bytes();
    let body = RpcMsgBody::Call(CallBody {
        rpcvers: 2,
        prog: nfs3::NFS_PROGRAM,
        vers: nfs3::NFS_V3,
        proc: nfs3::nfs_program::v3::GETATTR,
        cred: OpaqueAuth { flavor: AUTH_SYS, body: &parms },
        verf: OpaqueAuth { flavor: 0, body: b"" },
    });
    is(&RpcMsg { xid: 0x0102_0304, body }, &bytes);
    assert_eq!(AuthsysParms::from_bytes(&parms).unwrap().gids, [100, 27]);
}

#[test]
fn prog_mismatch_names_the_versions() {
    let bytes = hex("00000007 00000001 00000000 00000000 00000000 00000002 00000003 00000003");
    let reply_data = ReplyData::ProgMismatch(MismatchInfo { low: 3, high: 3 });
    let reply = AcceptedReply { verf: OpaqueAuth { flavor: 0, body: b"" }, reply_data };
    is(&RpcMsg { xid: 7, body: RpcMsgBody::Reply(ReplyBody::MsgAccepted(reply)) }, &bytes);
}

#[test]
fn a_readdir_answer() {
    let bytes = hex("00000000
         00000001
           00000002 000001ed 00000002 000003e8 00000064 0000000000001000 0000000000002000
           00000008 00000001 00000000000000fd 0000000000000002
           00000064 00000001 00000065 00000002 00000066 00000003
         a1a2a3a4a5a6a7a8
         00000001 0000000000000002 00000001 2e000000 0000000000000001
         00000001 0000000000000009 00000003 61626300 7fffffffffffffff
         00000000
         00000001");
    let attributes = Fattr3 {
        type_: Ftype3::Nf3dir,
        mode: 0o755,
        nlink: 2,
        uid: 1000,
        gid: 100,
        size: 4096,
        used: 8192,
        rdev: Specdata3 { specdata1: 8, specdata2: 1 },
        fsid: 253,
        fileid: 2,
        atime: Nfstime3 { seconds: 100, nseconds: 1 },
        mtime: Nfstime3 { seconds: 101, nseconds: 2 },
        ctime: Nfstime3 { seconds: 102, nseconds: 3 },
    };
    let value = Readdir3res::Nfs3Ok(Readdir3resok {
        dir_attributes: PostOpAttr::True(attributes),
        cookieverf: [0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8],
        reply: Dirlist3 {
            entries: vec![
                Entry3 { fileid: 2, name: b".", cookie: 1 },
                Entry3 { fileid: 9, name: b"abc", cookie: i64::MAX as u64 },
            ],
            eof: true,
        },
    });
    is(&value, &bytes);
}

#[test]
fn a_bool_union_is_an_option() {
    let some: nfs3::SetMode3 = Some(0o644).into();
    assert_eq!(some.to_bytes(), hex("00000001 000001a4"));
    let none: nfs3::SetMode3 = None.into();
    assert_eq!(none.to_bytes(), hex("00000000"));
    assert_eq!(Option::<u32>::from(some), Some(0o644));
}

#[test]
fn an_export_list_holds_lists() {
    let bytes = hex("00000001 00000002 2f610000 00000001 00000001 62000000 00000000 00000000");
    let value =
        vec![mount::Exportnode { ex_dir: b"/a", ex_groups: vec![mount::Groupnode { gr_name: b"b" }] }];
    let mut out = Vec::new();
    mount::encode_exports(&value, &mut lockferry_xdr::Writer::new(&mut out));
    assert_eq!(out, bytes);
    assert_eq!(mount::decode_exports(&mut lockferry_xdr::Reader::new(&bytes)).unwrap(), value);
}

#[test]
fn program_and_procedure_numbers() {
    assert_eq!((nlm::NLM_PROG, nsm::SM_PROG, mount::MOUNT_PROGRAM), (100_021, 100_024, 100_005));
    assert_eq!((nfs3::NFS_PROGRAM, portmap::PMAP_PROG, portmap::RPCBPROG), (100_003, 100_000, 100_000));
    assert_eq!(
        (nlm::nlm_prog::v4::SM_NOTIFY, nlm::nlm_prog::v3::NM_LOCK, nlm::nlm_prog::v1::GRANTED),
        (16, 22, 5)
    );
    assert_eq!((nsm::sm_prog::v1::NOTIFY, nfs3::nfs_program::v3::COMMIT), (6, 21));
    assert_eq!((portmap::pmap_prog::v2::GETPORT, portmap::rpcbprog::v4::GETVERSADDR), (3, 9));
    assert_eq!(mount::mount_program::v3::EXPORT, 5);
    assert_eq!(Nfsstat3::Nfs3errJukebox as i32, 10_008);
}
