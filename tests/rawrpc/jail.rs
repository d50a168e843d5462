//! Debian's own rpcbind and rpc.statd, run in the test's world from the unpacked tree that the virtual machines use, over an
//! overlay, so that nothing is installed and nothing is kept. They share the world's /run, as on a real host.
//!
//! Must never run in the host's namespaces.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use super::World;
use crate::support;

/// A root directory with the programs in it.
pub(crate) struct Jail {
    root: PathBuf,
}

/// A daemon in it; ends with the value.
pub(crate) struct Running(Child);

impl Jail {
    /// `None`, said loudly: there is no such tree.
    pub(crate) fn new(world: &World) -> Option<Self> {
        let tree = match support::vm::Image::find() {
            Ok(image) => image.tree(),
            Err(why) => {
                support::skip(&why);
                return None;
            }
        };
        let dir = world.dir().join("jail");
        world.tmpfs(&dir, 64 << 10);
        let (dir, tree) = (dir.display(), tree.display());
        world.sh(&format!(
            "mkdir {dir}/root {dir}/upper {dir}/work
             mount -t overlay -o lowerdir={tree},upperdir={dir}/upper,workdir={dir}/work overlay {dir}/root
             mount --rbind /run {dir}/root/run && mount --rbind /proc {dir}/root/proc && mount --rbind /dev {dir}/root/dev
             mkdir -p /run/rpcbind && chmod 777 /run/rpcbind
             chown -R 101 {dir}/root/var/lib/nfs"
        ));
        Some(Self { root: world.dir().join("jail/root") })
    }

    /// A path inside, as the test sees it.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside)
    }

    /// Starts rpcbind and waits until it answers.
    pub(crate) fn rpcbind(&self) -> Running {
        let running = self.start(&["rpcbind", "-f", "-w"]);
        support::wait_for("rpcbind", Duration::from_secs(10), || {
            let output = self.output(&["rpcinfo", "-p", "127.0.0.1"]);
            output.status.success().then_some(()).ok_or(String::from_utf8_lossy(&output.stderr).into())
        });
        running
    }

    /// Starts rpc.statd and waits until it is registered.
    pub(crate) fn statd(&self) -> Running {
        let running = self.start(&["rpc.statd", "--no-notify", "-F"]);
        support::wait_for("rpc.statd", Duration::from_secs(10), || {
            let list = self.rpcinfo();
            list.contains("100024").then_some(()).ok_or(list)
        });
        running
    }

    /// What `rpcinfo -p` prints: program, version, transport, port, name.
    pub(crate) fn rpcinfo(&self) -> String {
        let output = self.output(&["rpcinfo", "-p", "127.0.0.1"]);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{out}{err}");
        out.into_owned()
    }

    /// Whether `rpcinfo -p` has a program, version, transport and port.
    pub(crate) fn lists(&self, program: u32, version: u32, transport: &str, port: u16) -> bool {
        let wanted = [program.to_string(), version.to_string(), transport.into(), port.to_string()];
        self.rpcinfo()
            .lines()
            .any(|line| line.split_whitespace().take(4).eq(wanted.iter().map(String::as_str)))
    }

    /// Runs a program inside to its end.
    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        Command::new("chroot").arg(&self.root).args(arguments).output().unwrap()
    }

    fn start(&self, arguments: &[&str]) -> Running {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "chroot"]).arg(&self.root).args(arguments);
        Running(command.stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
