//! Every type of the protocol files by name, as one list: read from bytes and written again. Must be complete: a type that is not
//! in here is not fuzzed.

use lockferry_xdr::{Decode, DecodeError, Encode};

/// A type.
#[derive(Clone, Copy)]
pub struct Type {
    /// The protocol file's name.
    pub module: &'static str,
    /// Its name in Rust.
    pub name: &'static str,
    /// Reads it from bytes that it must fill.
    pub run: fn(&[u8]) -> Result<(), DecodeError>,
}

/// Decodes; what can be decoded must encode to the same bytes, since XDR has one form for each value.
fn there_and_back<'a, T: Decode<'a> + Encode>(bytes: &'a [u8]) -> Result<(), DecodeError> {
    let value = T::from_bytes(bytes)?;
    assert_eq!(value.to_bytes(), bytes);
    Ok(())
}

macro_rules! types {
    ($($module:ident: $($name:ident)*;)*) => {
        /// All of them. New ones go to the end of the list, so that a corpus keeps its meaning.
        pub const TYPES: &[Type] = &[$($(Type {
            module: stringify!($module),
            name: stringify!($name),
            run: |bytes| there_and_back::<lockferry_xdr::$module::$name>(bytes),
        }),*),*];
    };
}

types! {
    rpc: AcceptStat AcceptedReply AuthStat AuthsysParms CallBody MismatchInfo MsgType OpaqueAuth RejectStat
        RejectedReply ReplyBody ReplyData ReplyStat RpcMsg RpcMsgBody;
    portmap: CallArgs CallResult Mapping Netbuf Pmaplist Rpcb RpcbEntry RpcbEntryList RpcbRmtcallargs
        RpcbRmtcallres Rpcblist;
    mount: Exportnode Fhstatus Groupnode Mountbody Mountres3 Mountres3Ok Mountstat3;
    nsm: Mon MonId MyId SmName SmRes SmStat SmStatRes SmStatus StatChge;
    nlm: FshAccess FshMode Nlm4Cancargs Nlm4Holder Nlm4Lock Nlm4Lockargs Nlm4Notify Nlm4Res Nlm4Share
        Nlm4Shareargs Nlm4Shareres Nlm4Stat Nlm4Stats Nlm4Testargs Nlm4Testres Nlm4Testrply Nlm4Unlockargs
        NlmCancargs NlmHolder NlmLock NlmLockargs NlmNotify NlmRes NlmShare NlmShareargs NlmShareres NlmSmStatus
        NlmStat NlmStats NlmTestargs NlmTestres NlmTestrply NlmUnlockargs;
    nfs3: Access3args Access3res Access3resfail Access3resok Commit3args Commit3res Commit3resfail
        Commit3resok Create3args Create3res Create3resfail Create3resok Createhow3 Createmode3 Devicedata3 Dirlist3
        Dirlistplus3 Diropargs3 Entry3 Entryplus3 Fattr3 Fsinfo3args Fsinfo3res Fsinfo3resfail Fsinfo3resok
        Fsstat3args Fsstat3res Fsstat3resfail Fsstat3resok Ftype3 Getattr3args Getattr3res Getattr3resok Link3args
        Link3res Link3resfail Link3resok Lookup3args Lookup3res Lookup3resfail Lookup3resok Mkdir3args Mkdir3res
        Mkdir3resfail Mkdir3resok Mknod3args Mknod3res Mknod3resfail Mknod3resok Mknoddata3 NfsFh3 Nfsstat3
        Nfstime3 Pathconf3args Pathconf3res Pathconf3resfail Pathconf3resok PostOpAttr PostOpFh3 PreOpAttr
        Read3args Read3res Read3resfail Read3resok Readdir3args Readdir3res Readdir3resfail Readdir3resok
        Readdirplus3args Readdirplus3res Readdirplus3resfail Readdirplus3resok Readlink3args Readlink3res
        Readlink3resfail Readlink3resok Remove3args Remove3res Remove3resfail Remove3resok Rename3args Rename3res
        Rename3resfail Rename3resok Rmdir3args Rmdir3res Rmdir3resfail Rmdir3resok Sattr3 Sattrguard3 SetAtime
        SetGid3 SetMode3 SetMtime SetSize3 SetUid3 Setattr3args Setattr3res Setattr3resfail Setattr3resok
        Specdata3 StableHow Symlink3args Symlink3res Symlink3resfail Symlink3resok Symlinkdata3 TimeHow WccAttr
        WccData Write3args Write3res Write3resfail Write3resok;
}

/// The type with this name.
pub fn find(module: &str, name: &str) -> Option<&'static Type> {
    TYPES.iter().find(|t| t.module == module && t.name == name)
}
