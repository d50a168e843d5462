//! Virtual machines with a real Linux NFS client (or knfsd), emulated by qemu so that no hardware support is needed.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::agent::Agent;
use super::net::{Net, Process};

/// What `tests/vm/build` made.
pub(crate) struct Image {
    dir: PathBuf,
}

/// How a guest is made.
#[derive(Clone, Debug)]
pub(crate) struct VmConfig {
    /// Host name, its NSM name.
    pub(crate) name: String,
    /// Last number of its address.
    pub(crate) last: u8,
    /// Memory in MiB; 384 is enough for a client.
    pub(crate) memory: u32,
    /// Load nfsd too.
    pub(crate) server: bool,
    /// Further kernel parameters, such as `lockd.nlm_timeout=3`.
    pub(crate) kernel: String,
}

/// A guest. It is off until `boot`.
pub(crate) struct Vm {
    config: VmConfig,
    net: Net,
    image: Image,
    tap: String,
    dir: PathBuf,
    running: Option<Running>,
    boots: u32,
}

struct Running {
    agent: Agent,
    process: Process,
}

impl Image {
    /// The image to use: `LOCKFERRY_TEST_IMAGE`, else the newest in the cache.
    pub(crate) fn find() -> Result<Self, String> {
        let dir = match std::env::var_os("LOCKFERRY_TEST_IMAGE") {
            Some(dir) => PathBuf::from(dir),
            None => cache_dir().join("current"),
        };
        if dir.join("initrd").exists() {
            Ok(Self { dir })
        } else {
            Err(format!("no virtual machine image in {}: run tests/vm/build", dir.display()))
        }
    }

    /// The unpacked root, with programs that are not installed on the host (rpcbind, rpc.statd, showmount).
    pub(crate) fn tree(&self) -> PathBuf {
        self.dir.join("tree")
    }

    fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }
}

fn cache_dir() -> PathBuf {
    let own = std::env::var_os("LOCKFERRY_TEST_CACHE").map(PathBuf::from);
    let xdg = || std::env::var_os("XDG_CACHE_HOME").map(|d| PathBuf::from(d).join("lockferry-tests"));
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/lockferry-tests");
    own.or_else(xdg).unwrap_or_else(home)
}

impl VmConfig {
    /// A client with the usual memory.
    pub(crate) fn client(name: &str, last: u8) -> Self {
        Self { name: name.into(), last, memory: 384, server: false, kernel: String::new() }
    }

    /// A knfsd server.
    pub(crate) fn server(name: &str, last: u8) -> Self {
        Self { server: true, ..Self::client(name, last) }
    }
}

impl Vm {
    /// A guest on this network with a disk of its own for /var/lib/nfs; it is not booted yet.
    pub(crate) fn new(net: &Net, config: VmConfig) -> Self {
        let image = Image::find().expect("checked by missing_for_vms");
        let dir = net.dir().join(&config.name);
        std::fs::create_dir_all(&dir).expect("guest directory");
        let disk = dir.join("nfs.ext4");
        let size = if config.server { 1 << 30 } else { 8 << 20 };
        std::fs::File::create(&disk).and_then(|f| f.set_len(size)).expect("disk");
        let made =
            Command::new(super::find_program("mkfs.ext4").expect("mkfs.ext4")).arg("-qF").arg(&disk).status();
        assert!(made.is_ok_and(|s| s.success()), "mkfs.ext4 failed");
        Self { net: net.clone(), image, tap: net.tap(), dir, running: None, boots: 0, config }
    }

    /// Its address.
    pub(crate) fn address(&self) -> Ipv4Addr {
        Net::address(self.config.last)
    }

    /// Its host name.
    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// Turns it on and waits for its agent. `notify`: run sm-notify at boot as a real machine does; otherwise
    /// the test runs it when it wants to (`sm-notify` in the guest).
    pub(crate) fn boot(&mut self, notify: bool) {
        assert!(self.running.is_none(), "{} is already on", self.config.name);
        self.boots += 1;
        let socket = self.dir.join("agent.sock");
        let _ = std::fs::remove_file(&socket);
        let mut command = self.net.command("sh");
        let log = std::fs::File::create(self.dir.join("qemu.log")).expect("log");
        command.stderr(log);
        let (mut process, _) = Process::start(command, "/proc", &self.qemu_arguments(notify, &socket));
        let console = self.console_path();
        let dir = self.dir.clone();
        let agent = Agent::connect(&self.config.name, &socket, || match process.ended() {
            None => Ok(()),
            Some(status) => {
                Err(format!("qemu ended ({status})\n{}{}", read(&dir.join("qemu.log")), read(&console)))
            }
        });
        self.running = Some(Running { agent, process });
    }

    fn qemu_arguments(&self, notify: bool, socket: &Path) -> Vec<String> {
        let (c, image) = (&self.config, &self.image);
        let role = if c.server { "server" } else { "client" };
        let append = format!(
            "console=ttyS0 quiet loglevel=4 panic=-1 random.trust_cpu=on lf.host={} lf.ip={}/24 lf.role={role} lf.notify={} {}",
            c.name,
            self.address(),
            u8::from(notify),
            c.kernel
        );
        let disk = |id: &str, file: String, extra: &str| {
            [
                "-drive".into(),
                format!("if=none,id={id},file={file},format=raw{extra}"),
                "-device".into(),
                format!("virtio-blk-pci,drive={id}"),
            ]
        };
        let mut args: Vec<String> =
            ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-nodefaults", "-display", "none"]
                .iter()
                .map(ToString::to_string)
                .collect();
        args.extend(["-no-reboot", "-monitor", "none", "-m"].map(String::from));
        args.extend([c.memory.to_string(), "-kernel".into(), image.file("vmlinux")]);
        args.extend(["-initrd".into(), image.file("initrd"), "-append".into(), append]);
        args.extend(disk("root", image.file("root.ext4"), ",readonly=on"));
        args.extend(disk("nfs", self.dir.join("nfs.ext4").display().to_string(), ""));
        args.extend(["-netdev".into(), format!("tap,id=net,ifname={},script=no,downscript=no", self.tap)]);
        args.extend([
            "-device".into(),
            format!("virtio-net-pci,netdev=net,mac=52:54:00:4c:46:{:02x},romfile=", c.last),
        ]);
        args.extend(["-device".into(), "virtio-serial-pci".into(), "-chardev".into()]);
        args.extend([
            format!("socket,id=agent,path={},server=on,wait=off", socket.display()),
            "-device".into(),
        ]);
        args.push("virtserialport,chardev=agent,name=lockferry.agent".into());
        args.extend(["-serial".into(), format!("file:{}", self.console_path().display())]);
        // A root shell for people: `socat -,rawer UNIX-CONNECT:shell.sock`.
        args.extend(["-serial".into(), format!("unix:{},server=on,wait=off", self.shell_path().display())]);
        args
    }

    /// The agent of the running guest.
    pub(crate) fn agent(&self) -> &Agent {
        &self.running.as_ref().unwrap_or_else(|| panic!("{} is off", self.config.name)).agent
    }

    /// Whether it is off.
    pub(crate) fn is_off(&self) -> bool {
        self.running.is_none()
    }

    /// Pulls the plug: nothing in the guest gets a chance to say good-bye.
    pub(crate) fn power_cut(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.process.kill();
        }
    }

    /// Pulls its network cable, silently, or plugs it in again.
    pub(crate) fn plug(&self, plugged: bool) {
        self.net.plug(&self.tap, plugged);
    }

    /// What the guest printed on its console since its last boot.
    pub(crate) fn console(&self) -> String {
        read(&self.console_path())
    }

    /// How a person gets a shell in the guest, for messages.
    pub(crate) fn way_in(&self) -> String {
        format!("socat -,rawer UNIX-CONNECT:{}", self.shell_path().display())
    }

    fn shell_path(&self) -> PathBuf {
        self.dir.join("shell.sock")
    }

    fn console_path(&self) -> PathBuf {
        self.dir.join(format!("console-{}.log", self.boots))
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// Boots several guests at the same time.
pub(crate) fn boot_all(vms: &mut [&mut Vm]) {
    std::thread::scope(|scope| {
        for vm in vms {
            scope.spawn(|| vm.boot(true));
        }
    });
}
