//! What is longer than its maximum is refused, by name and number.

use lockferry_xdr::mount::{self, MNTPATHLEN};
use lockferry_xdr::nfs3::{Dirlist3, ENTRY3_LIST_MAX, NFS3_DATA_MAX, NfsFh3, Write3args};
use lockferry_xdr::nlm::{LM_MAXSTRLEN, Nlm4Lock, Nlm4Stats, Nlm4Unlockargs};
use lockferry_xdr::rpc::{AuthsysParms, OpaqueAuth};
use lockferry_xdr::{Decode, DecodeError, Encode, Reader, Writer};

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_be_bytes()).collect()
}

#[test]
fn a_caller_name_one_byte_too_long() {
    let mut bytes = Vec::new();
    let mut w = Writer::new(&mut bytes);
    w.opaque_var(b"cookie");
    w.opaque_var(&[b'a'; LM_MAXSTRLEN as usize + 1]);
    assert_eq!(Nlm4Unlockargs::from_bytes(&bytes), Err(DecodeError::TooLong { len: 1025, max: 1024 }));

    let alock = Nlm4Lock {
        caller_name: &[b'a'; LM_MAXSTRLEN as usize],
        fh: b"",
        oh: b"",
        svid: 0,
        l_offset: 0,
        l_len: 0,
    };
    let bytes = alock.to_bytes();
    assert_eq!(Nlm4Lock::from_bytes(&bytes), Ok(alock));
}

#[test]
fn a_length_of_four_gigabytes() {
    let bytes = words(&[u32::MAX, 0]);
    assert_eq!(NfsFh3::from_bytes(&bytes), Err(DecodeError::TooLong { len: u32::MAX as usize, max: 64 }));
}

#[test]
fn a_path_one_byte_too_long() {
    let mut bytes = Vec::new();
    Writer::new(&mut bytes).opaque_var(&[b'/'; MNTPATHLEN as usize + 1]);
    let refused = mount::decode_dirpath(&mut Reader::new(&bytes));
    assert_eq!(refused, Err(DecodeError::TooLong { len: 1025, max: 1024 }));
}

#[test]
fn write_data_of_more_than_a_mebibyte() {
    let bytes = words(&[0, 0, 0, 1, 0, NFS3_DATA_MAX + 1]);
    let max = NFS3_DATA_MAX as usize;
    assert_eq!(Write3args::from_bytes(&bytes), Err(DecodeError::TooLong { len: max + 1, max }));
}

#[test]
fn seventeen_groups_and_a_credential_of_401_bytes() {
    let bytes = words(&[0, 0, 0, 0, 17]);
    assert_eq!(AuthsysParms::from_bytes(&bytes), Err(DecodeError::TooLong { len: 17, max: 16 }));
    let bytes = words(&[1, 401]);
    assert_eq!(OpaqueAuth::from_bytes(&bytes), Err(DecodeError::TooLong { len: 401, max: 400 }));
}

#[test]
fn a_list_may_be_as_long_as_its_maximum_and_no_longer() {
    let max = ENTRY3_LIST_MAX as usize;
    // Of one entry: it follows; file id; name of no bytes; cookie.
    let mut bytes = words(&[1, 0, 7, 0, 0, 8]).repeat(max);
    let end = bytes.len();
    bytes.extend(words(&[0, 1]));
    assert_eq!(Dirlist3::from_bytes(&bytes).unwrap().entries.len(), max);

    bytes.truncate(end);
    bytes.extend(words(&[1, 0, 7, 0, 0, 8, 0, 1]));
    assert_eq!(Dirlist3::from_bytes(&bytes), Err(DecodeError::TooLong { len: max + 1, max }));
}

#[test]
fn numbers_that_an_enum_does_not_have() {
    let refused = DecodeError::BadDiscriminant { what: "nlm4_stats", value: 10 };
    assert_eq!(Nlm4Stats::from_bytes(&words(&[10])), Err(refused));
    assert_eq!(Nlm4Stats::try_from(10), Err(refused));
    assert_eq!(Nlm4Stats::try_from(4), Ok(Nlm4Stats::Nlm4DeniedGracePeriod));
}

#[test]
fn a_bool_is_zero_or_one() {
    let bytes = words(&[0, 2]);
    assert_eq!(Dirlist3::from_bytes(&bytes), Err(DecodeError::BadDiscriminant { what: "bool", value: 2 }));
}
