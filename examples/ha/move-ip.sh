#!/bin/sh
# Moves a floating IP, its disk and the locks taken through it, the way a cluster manager does: one node releases, another takes.
#
#   move-ip.sh take    IP[/PREFIX] EXPORT DISK MOUNTPOINT [OPTION...]
#   move-ip.sh release IP[/PREFIX] MOUNTPOINT
#
# EXPORT is a directory on the disk, as configured in lockferry (a blank in it is written \040); OPTION is any of start_grace's: adopt, full, grace=30s...
# `lockferry serve` runs on both nodes all the time. Both verbs may be repeated, and do then what is still missing.
# The journal's directory is the one of the settings ([[lock_manager]] journal), on this disk. Nobody makes it but you, once, when the
# disk is new: one that is missing later must stop the move, and not begin an empty record.
#
# Settings, from the environment:
#   DEV      the interface (eth0)
#   JOURNAL  another directory for the journal than the settings name
#   CONTROL  lockferry's control files (/run/lockferry/control)
#
# After a node has died nobody releases: fence it (cut its power or its access to the disk), then take. A disk that two nodes have
# mounted is lost; two nodes that both believe in the IP are not the end, as lockferry's epochs silence the older one.
set -eu

DEV=${DEV:-eth0}
CONTROL=${CONTROL:-/run/lockferry/control}
JOURNAL=${JOURNAL:-}

say() { printf '%s %s\n' "$(date +%s.%N)" "$*"; }
fail() {
    echo "move-ip.sh: $*" >&2
    exit 1
}
usage() {
    sed -n '3,5s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

# Writes into a control file. The write returns when the work is done and durable, and fails with lockferry's own error, whose text is
# in `lockferry status`.
control() { printf '%s\n' "$2" >"$CONTROL/$1" || fail "$1 $2: refused, see: lockferry status"; }

here() { ip -o addr show dev "$DEV" | grep -qF " $IP/"; }

add_address() {
    case $IP in
        *:*) ;;
        *)
            ip addr add "$IP/${PREFIX:-24}" dev "$DEV"
            return
            ;;
    esac
    # Duplicate address detection would keep it from being used for a second or two, and nobody else has it: the other node has
    # released it, or is fenced. `nodad` would do too, but then the kernel does not tell the neighbours.
    conf=/proc/sys/net/ipv6/conf/$DEV
    before=$(cat "$conf/accept_dad")
    echo 0 >"$conf/accept_dad"
    echo 1 >"$conf/ndisc_notify"
    ip addr add "$IP/${PREFIX:-64}" dev "$DEV"
    while ip -o -6 addr show dev "$DEV" tentative | grep -qF " $IP/"; do sleep 0.05; done
    echo "$before" >"$conf/accept_dad"
}

# The neighbours have the other node's hardware address in their tables. Who is not told sends there for up to a minute, answers to our
# notices included, and may miss its grace window. So they are told once a second for as long as a window usually lasts, and no
# longer than the address is here. Nobody has to wait for that.
announce() {
    case $IP in
        *:*) ;; # the kernel did, by ndisc_notify
        *) (
            n=0
            while [ $n -lt 30 ] && here && arping -q -U -c 1 -I "$DEV" "$IP"; do n=$((n + 1)); done
        ) >/dev/null 2>&1 & ;;
    esac
}

take() {
    # 1. The disk. Export and record are on it.
    mountpoint -q "$MOUNTPOINT" || mount "$DISK" "$MOUNTPOINT"
    say "disk mounted"

    # 2. The locks, before the address is up: from its first packet on, requests find a server that knows every lock. In the other
    #    order nothing would be lost (lockferry is silent on an address that it has not taken up), but clients whose calls are not
    #    answered, or whose connections are refused, wait for seconds before they try again.
    #    The clients are told (SM_NOTIFY) by lockferry itself, as soon as the address is up, and the grace window counts from then.
    control start_grace "$IP $EXPORT ${JOURNAL:+journal=$JOURNAL} $*"
    say "locks taken up"

    # 3. The address.
    here || add_address
    say "address up"
    announce
    say "taken"
}

release() {
    # 1. The locks, while the address is still up: lockferry stops answering on it, writes that the record is complete, and resets
    #    the clients' connections. The resets have to leave from the address; without them clients would wait on connections to
    #    nobody. From here on the locks wait in the record for the node that takes.
    #    Where lockferry does not run nothing is held, and nothing has to be given up.
    if [ -e "$CONTROL/unlock_ip" ]; then control unlock_ip "$IP"; fi
    say "locks given up"

    # 2. The address, before the disk: nobody must be able to ask for files that are not there any more.
    if here; then ip addr del "$IP/${PREFIX:-$(default_prefix)}" dev "$DEV"; fi
    if ip -o addr show | grep -qF " $IP/"; then fail "$IP is still here, on another interface than DEV=$DEV: take it off there"; fi
    say "address gone"

    # 3. The disk. lockferry has closed every file under an export that it does not serve any more, so this succeeds at once. If it
    #    does not, somebody else is at work there (`fuser -vm MOUNTPOINT`); the disk must not be mounted elsewhere then.
    if mountpoint -q "$MOUNTPOINT"; then umount "$MOUNTPOINT"; fi
    say "released"
}

default_prefix() {
    case $IP in *:*) echo 64 ;; *) echo 24 ;; esac
}

[ $# -ge 3 ] || usage
verb=$1
IP=${2%/*}
PREFIX=
case $2 in */*) PREFIX=${2#*/} ;; esac
case $verb in
    take)
        [ $# -ge 5 ] || usage
        EXPORT=$3 DISK=$4 MOUNTPOINT=$5
        shift 5
        take "$@"
        ;;
    release)
        [ $# -eq 3 ] || usage
        MOUNTPOINT=$3
        release
        ;;
    *) usage ;;
esac
