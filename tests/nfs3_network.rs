//! NFSv3 and MOUNT over real sockets, with foreign clients as judges: the nfs3_client crate, and libnfs and
//! showmount where they are installed.

// Helpers of tests, which clippy does not take for tests.
#![allow(clippy::unwrap_used)]

mod nfs3_common;

use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use lockferry::export::{ExportTable, FilePool};
use lockferry::node::config::{Cidr, ExportConfig};
use lockferry::rpc::drc::{Drc, DrcLimits};
use lockferry::rpc::rpcbind::{Portmapper, Table, registrations};
use lockferry::rpc::server::{ListenSpec, RpcServer, ServerLimits};
use lockferry::service::mount::Mount;
use lockferry::service::nfs3::Nfs3;
use nfs3_client::nfs3_types::nfs3 as n;
use nfs3_client::nfs3_types::rpc::{auth_unix, opaque_auth};
use nfs3_client::nfs3_types::xdr_codec::Opaque;
use nfs3_client::tokio::{TokioConnector, TokioIo};
use nfs3_client::{Nfs3Connection, Nfs3ConnectionBuilder};
use nfs3_common::*;

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

struct Node {
    server: RpcServer,
    nfs: u16,
    mount: u16,
}

fn listen(server: &RpcServer, name: &str, port: u16) -> lockferry::rpc::server::BoundPort {
    server.bind(&ListenSpec { name: name.into(), bind: vec![LOOPBACK], port, udp: true }).unwrap()
}

/// Serves the exports on loopback; must be called inside a runtime.
fn serve(configs: &[ExportConfig], portmapper: bool) -> Node {
    let server = RpcServer::new(ServerLimits::default(), Arc::new(Drc::new(DrcLimits::default())));
    let table = Arc::new(ExportTable::open(configs));
    let pool = FilePool::start(4, &table).unwrap();
    let nfs = listen(&server, "nfs", 0);
    let mount = listen(&server, "mount", 0);
    let node = Node { server: server.clone(), nfs: nfs.port(), mount: mount.port() };
    if portmapper {
        let ports = Arc::new(Table::new());
        ports.register(&registrations(100_003, &[3], &nfs.addresses()));
        ports.register(&registrations(100_005, &[1, 3], &mount.addresses()));
        let bound = listen(&server, "rpcbind", 111);
        ports.register(&registrations(100_000, &[2, 3, 4], &bound.addresses()));
        server.serve(bound, vec![Arc::new(Portmapper::new(ports, true))]).unwrap();
    }
    server.serve(nfs, vec![Arc::new(Nfs3::new(table.clone(), pool.clone()))]).unwrap();
    server.serve(mount, vec![Arc::new(Mount::new(table, pool))]).unwrap();
    node
}

fn insecure(path: &Path) -> ExportConfig {
    ExportConfig { insecure: true, ..config(path) }
}

async fn connect(node: &Node, path: &Path) -> Nfs3Connection<TokioIo<tokio::net::TcpStream>> {
    let me = auth_unix {
        stamp: 1,
        machinename: Opaque::borrowed(b"client"),
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        gids: vec![],
    };
    Nfs3ConnectionBuilder::new(TokioConnector, "127.0.0.1", path.to_str().unwrap())
        .nfs3_port(node.nfs)
        .mount_port(node.mount)
        .connect_from_privileged_port(false)
        .credential(opaque_auth::auth_unix(&me))
        .mount()
        .await
        .unwrap()
}

fn named<'a>(dir: &n::nfs_fh3, name: &'a str) -> n::diropargs3<'a> {
    n::diropargs3 { dir: dir.clone(), name: name.as_bytes().into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_implementation_writes_and_reads_a_tree() {
    let dir = public_dir();
    let node = serve(&[insecure(dir.path())], false);
    let mut c = connect(&node, dir.path()).await;
    c.null().await.unwrap();
    let root = c.root_nfs_fh3();
    let made = c
        .mkdir(&n::MKDIR3args { where_: named(&root, "sub"), attributes: n::sattr3::default() })
        .await
        .unwrap()
        .unwrap();
    let n::Nfs3Option::Some(sub) = made.obj else { panic!("no handle") };
    let how = n::createhow3::GUARDED(n::sattr3::default());
    let made = c.create(&n::CREATE3args { where_: named(&sub, "big"), how }).await.unwrap().unwrap();
    let n::Nfs3Option::Some(file) = made.obj else { panic!("no handle") };
    let data: Vec<u8> = (0..3_000_001usize).map(|at| (at % 251) as u8).collect();
    for (at, chunk) in data.chunks(1 << 20).enumerate() {
        let written = c
            .write(&n::WRITE3args {
                file: file.clone(),
                offset: (at << 20) as u64,
                count: chunk.len() as u32,
                stable: n::stable_how::UNSTABLE,
                data: Opaque::borrowed(chunk),
            })
            .await
            .unwrap()
            .unwrap();
        assert_eq!(written.count as usize, chunk.len());
    }
    c.commit(&n::COMMIT3args { file: file.clone(), offset: 0, count: 0 }).await.unwrap().unwrap();
    let mut got = Vec::new();
    loop {
        let offset = got.len() as u64;
        let args = n::READ3args { file: file.clone(), offset, count: 1 << 20 };
        let read = c.read(&args).await.unwrap().unwrap();
        got.extend_from_slice(read.data.as_ref());
        if read.eof {
            break;
        }
    }
    assert!(got == data);
    assert!(std::fs::read(dir.path().join("sub/big")).unwrap() == data);
    let plus = n::READDIRPLUS3args {
        dir: sub.clone(),
        cookie: 0,
        cookieverf: n::cookieverf3::default(),
        dircount: 4096,
        maxcount: 32768,
    };
    let listed = c.readdirplus(&plus).await.unwrap().unwrap();
    let names: Vec<String> = listed
        .reply
        .entries
        .into_inner()
        .iter()
        .map(|e| String::from_utf8_lossy(e.name.0.as_ref()).into())
        .collect();
    assert!(listed.reply.eof && names.len() == 3 && names.contains(&"big".to_owned()), "{names:?}");
    let from = named(&sub, "big");
    let to = named(&root, "moved");
    c.rename(&n::RENAME3args { from, to }).await.unwrap().unwrap();
    c.rmdir(&n::RMDIR3args { object: named(&root, "sub") }).await.unwrap().unwrap();
    c.remove(&n::REMOVE3args { object: named(&root, "moved") }).await.unwrap().unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    c.unmount().await.unwrap();
    node.server.shutdown(Duration::from_secs(1)).await;
}

/// A program's output; None, said loudly, if it is not installed. It is the only prerequisite that `tests/run`
/// does not install.
fn run(program: &str, args: &[&str]) -> Option<Output> {
    match Command::new(program).args(args).output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("skipped: {program}: {error} (Debian package libnfs-utils)");
            eprintln!("skipped: {program}: {error} (Debian package libnfs-utils)");
            None
        }
    }
}

/// showmount, of the host or else out of the tree of the test machines' image.
fn showmount() -> Option<Command> {
    let directories = ["/usr/sbin", "/sbin", "/usr/bin"].map(String::from);
    let path = std::env::var("PATH").unwrap_or_default();
    let mut on_host = path.split(':').map(String::from).chain(directories);
    if let Some(found) = on_host.find(|dir| Path::new(dir).join("showmount").is_file()) {
        return Some(Command::new(format!("{found}/showmount")));
    }
    let tree = std::env::var("LOCKFERRY_TEST_TREE").ok()?;
    let mut command = Command::new("chroot");
    command.args([&tree, "/usr/sbin/showmount"]);
    Some(command)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn libnfs_lists_copies_and_reads() {
    let dir = public_dir();
    for n in 0..500 {
        std::fs::write(dir.path().join(format!("file-{n}")), n.to_string()).unwrap();
    }
    std::fs::create_dir(dir.path().join("deep")).unwrap();
    std::fs::write(dir.path().join("deep/leaf"), vec![7u8; 2_500_000]).unwrap();
    let node = serve(&[insecure(dir.path())], false);
    let url = |path: &str| {
        let options = format!("?version=3&nfsport={}&mountport={}", node.nfs, node.mount);
        format!("nfs://127.0.0.1{}/{path}{options}", dir.path().display())
    };
    tokio::task::block_in_place(|| {
        let ls = run("nfs-ls", &["-R", &url("")])?;
        let text = String::from_utf8_lossy(&ls.stdout);
        assert!(ls.status.success(), "{}", String::from_utf8_lossy(&ls.stderr));
        assert_eq!(text.lines().filter(|line| line.contains("file-")).count(), 500);
        assert!(text.contains("leaf"));
        let cat = run("nfs-cat", &[&url("deep/leaf")])?;
        assert!(cat.stdout == vec![7u8; 2_500_000]);
        let source = dir.path().join("deep/leaf");
        let cp = run("nfs-cp", &[source.to_str()?, &url("copy")])?;
        assert!(cp.status.success(), "{}", String::from_utf8_lossy(&cp.stderr));
        assert!(std::fs::read(dir.path().join("copy")).unwrap() == vec![7u8; 2_500_000]);
        Some(())
    });
    node.server.shutdown(Duration::from_secs(1)).await;
}

/// Gives the calling thread, and the processes it starts, a network of their own with loopback.
fn own_network() -> bool {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).is_ok()
        && Command::new("ip").args(["link", "set", "lo", "up"]).status().is_ok_and(|s| s.success())
}

#[test]
fn showmount_lists_exports_and_mounts() {
    std::thread::spawn(|| {
        if !own_network() {
            return skip("needs root and iproute2 for a network namespace (port 111 is the portmapper's)");
        }
        let (open, closed) = (public_dir(), public_dir());
        let clients = vec![Cidr { addr: "10.1.0.0".parse().unwrap(), prefix: 16 }];
        // All on this thread: another one would be in the old network.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let configs = [insecure(open.path()), ExportConfig { clients, ..config(closed.path()) }];
            let node = serve(&configs, true);
            let mounted = connect(&node, open.path()).await;
            for (arg, wanted) in [
                ("-e", closed.path().to_str().unwrap()),
                ("-e", "10.1.0.0/16"),
                ("-a", open.path().to_str().unwrap()),
            ] {
                let Some(mut command) = showmount() else {
                    return skip("showmount is not installed (Debian package nfs-common)");
                };
                command.args(["--no-headers", arg, "127.0.0.1"]);
                let output = output_of(command).await;
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(
                    text.contains(wanted),
                    "showmount {arg}: {text} {}",
                    String::from_utf8_lossy(&output.stderr)
                );
            }
            drop(mounted);
            node.server.shutdown(Duration::from_secs(1)).await;
        });
    })
    .join()
    .unwrap();
}

/// Runs a program without stopping the runtime's only thread.
async fn output_of(mut command: Command) -> Output {
    use std::process::Stdio;
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    for _ in 0..1_000 {
        if child.try_wait().unwrap().is_some() {
            return child.wait_with_output().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let _ = child.kill();
    panic!("{command:?} did not end");
}
