"""The agent inside a guest: takes commands from the test as JSON lines over virtio-serial.

Each request has an `id` and is answered once, when it is done; a blocking lock is simply a request that is
answered later. One process per lock owner is kept alive and told what to do, because a POSIX lock belongs to
a process. See docs/testing.md for the requests. No third-party modules; single-threaded.
"""

import errno
import fcntl
import gc
import json
import os
import selectors
import signal
import struct
import subprocess
import sys
import time

PORT_NAME = "lockferry.agent"
MAX_OUTPUT = 1 << 20
LOCK_TYPES = {"r": fcntl.F_RDLCK, "w": fcntl.F_WRLCK, "u": fcntl.F_UNLCK}
TYPE_NAMES = {v: k for k, v in LOCK_TYPES.items()}
F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 36, 37, 38
FLOCK = "hhqqi4x"


# ---------------------------------------------------------------- lock owner


class Owner:
    """Carries out requests in a process of its own, one at a time."""

    def __init__(self):
        self.next = 1
        self.fds = {}

    def op_open(self, r):
        flags = {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR}[r.get("mode", "rw")]
        if r.get("create", True):
            flags |= os.O_CREAT
        fd = os.open(r["path"], flags, 0o666)
        handle, self.next = self.next, self.next + 1
        self.fds[handle] = fd
        return {"file": handle}

    def op_close(self, r):
        os.close(self.fds.pop(r["file"]))

    def set_lock(self, fd, kind, start, length, wait, ofd=False):
        if ofd:
            command = F_OFD_SETLKW if wait else F_OFD_SETLK
        else:
            command = fcntl.F_SETLKW if wait else fcntl.F_SETLK
        fcntl.fcntl(fd, command, struct.pack(FLOCK, LOCK_TYPES[kind], 0, start, length, 0))

    def op_lock(self, r):
        self.set_lock(self.fds[r["file"]], r["type"], r["start"], r["len"], r["wait"], r.get("ofd", False))

    def op_test(self, r):
        answer = fcntl.fcntl(
            self.fds[r["file"]], fcntl.F_GETLK, struct.pack(FLOCK, LOCK_TYPES[r["type"]], 0, r["start"], r["len"], 0)
        )
        kind, _, start, length, pid = struct.unpack(FLOCK, answer)
        return {"type": TYPE_NAMES[kind], "start": start, "len": length, "pid": pid}

    def op_flock(self, r):
        how = {"r": fcntl.LOCK_SH, "w": fcntl.LOCK_EX, "u": fcntl.LOCK_UN}[r["type"]]
        fcntl.flock(self.fds[r["file"]], how if r["wait"] else how | fcntl.LOCK_NB)

    def op_lock_many(self, r):
        """`count` locks of `len` bytes, `stride` apart: non-adjacent when the stride is larger."""
        fd = self.fds[r["file"]]
        for i in range(r["count"]):
            self.set_lock(fd, r["type"], r["start"] + i * r["stride"], r["len"], r.get("wait", False))

    def op_lock_files(self, r):
        """The first byte of `count` files PREFIX0, PREFIX1...; they stay open."""
        for i in range(r["count"]):
            fd = os.open(r["path"] + str(i), os.O_RDWR | os.O_CREAT, 0o666)
            self.fds["%s%d" % (r["path"], i)] = fd
            self.set_lock(fd, r["type"], 0, 1, False)

    def op_free_files(self, r):
        """Which of the files PREFIX0, PREFIX1... have nobody's lock on their first byte."""
        free = []
        for i in range(r["count"]):
            fd = os.open(r["path"] + str(i), os.O_RDWR)
            try:
                answer = fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack(FLOCK, fcntl.F_WRLCK, 0, 0, 1, 0))
                if struct.unpack(FLOCK, answer)[0] == fcntl.F_UNLCK:
                    free.append(i)
            finally:
                os.close(fd)
        return {"free": free}

    def op_churn(self, r):
        """Locks a byte, adds one to the number in the file, unlocks; until the file `stop` exists.

        Whoever else does the same must never be inside at the same time, or the number ends up too small.
        """
        fd = os.open(r["path"], os.O_RDWR | os.O_CREAT, 0o666)
        cycles = 0
        while not os.path.exists(r["stop"]):
            self.set_lock(fd, "w", r["start"], 1, True)
            number = int(os.pread(fd, 16, 0) or b"0")
            os.pwrite(fd, b"%015d\n" % (number + 1), 0)
            self.set_lock(fd, "u", r["start"], 1, False)
            cycles += 1
        os.close(fd)
        return {"cycles": cycles}

    def op_close_all(self, _):
        for fd in self.fds.values():
            os.close(fd)
        self.fds.clear()

    def op_write(self, r):
        return {"written": os.pwrite(self.fds[r["file"]], r["data"].encode(), r["start"])}

    def op_read(self, r):
        return {"data": os.pread(self.fds[r["file"]], r["len"], r["start"]).decode("latin-1")}

    def op_swarm(self, r):
        """`count` processes that each wait for the same lock, note that they have it, and let go.

        The answer lists the order of the grants and how many processes were ever inside at once.
        """
        gc.collect()
        gc.freeze()
        pipe_r, pipe_w = os.pipe()
        children = []
        for i in range(r["count"]):
            pid = os.fork()
            if pid == 0:
                self.swarm_child(i, pipe_w, r)
            children.append(pid)
            if r.get("pause"):
                time.sleep(r["pause"])
        os.close(pipe_w)
        order, inside, most, failed, rest = [], 0, 0, [], b""
        while True:
            data = os.read(pipe_r, 65536)
            if not data:
                break
            lines = (rest + data).split(b"\n")
            rest = lines.pop()
            for line in lines:
                what, number = line.decode().split()
                if what == "enter":
                    inside += 1
                    most = max(most, inside)
                    order.append(int(number))
                elif what == "leave":
                    inside -= 1
                else:
                    failed.append("%s %s" % (number, what))
        for pid in children:
            os.waitpid(pid, 0)
        os.close(pipe_r)
        return {"order": order, "most_inside": most, "failed": failed}

    def swarm_child(self, number, pipe, r):
        try:
            fd = os.open(r["path"], os.O_RDWR)
            self.set_lock(fd, r["type"], r["start"], r["len"], True)
            os.write(pipe, b"enter %d\n" % number)
            # Written before the unlock, so the next one's line can only come after it.
            os.write(pipe, b"leave %d\n" % number)
            self.set_lock(fd, "u", r["start"], r["len"], False)
        except OSError as e:
            os.write(pipe, b"%s %d\n" % (code_name(e).encode(), number))
        os._exit(0)

    def op_exit(self, _):
        os._exit(0)

    def serve(self, source, sink):
        for line in source:
            request = json.loads(line)
            began = time.monotonic()
            try:
                answer = {"ok": True, "result": getattr(self, "op_" + request["op"])(request) or {}}
            except OSError as e:
                answer = failure(e)
            except (KeyError, AttributeError, TypeError, ValueError) as e:
                answer = {"ok": False, "error": "agent: %s: %s" % (type(e).__name__, e)}
            answer["id"] = request["id"]
            answer["seconds"] = time.monotonic() - began
            sink.write(json.dumps(answer) + "\n")
            sink.flush()


def failure(e):
    return {"ok": False, "code": code_name(e), "error": str(e)}


def code_name(e):
    # Two names share a number; this is the one that fcntl(2) uses.
    return "EDEADLK" if e.errno == errno.EDEADLK else errno.errorcode.get(e.errno, "EIO")


def interrupted(_number, _frame):
    # Raising is what makes Python give up the system call instead of repeating it.
    raise InterruptedError(errno.EINTR, "interrupted by a signal")


# ---------------------------------------------------------------- the agent


class Agent:
    def __init__(self, port):
        self.port = port
        self.selector = selectors.DefaultSelector()
        self.selector.register(port, selectors.EVENT_READ, self.port_readable)
        self.pending = b""
        self.owners = {}
        self.runs = []

    def send(self, message):
        data = (json.dumps(message) + "\n").encode()
        while data:
            data = data[os.write(self.port, data) :]

    def port_readable(self):
        data = os.read(self.port, 65536)
        if not data:  # nobody is connected on the host's side
            time.sleep(0.1)
            return
        lines = (self.pending + data).split(b"\n")
        self.pending = lines.pop()
        for line in lines:
            if line.strip():
                self.handle(json.loads(line))

    def handle(self, r):
        try:
            if "owner" in r and r["op"] not in ("spawn", "kill"):
                self.forward(r)
                return
            result = getattr(self, "op_" + r["op"])(r)
            if result is not None:
                self.send({"id": r["id"], "ok": True, "result": result})
        except OSError as e:
            self.send(dict(failure(e), id=r["id"]))
        except (KeyError, AttributeError, TypeError, ValueError) as e:
            self.send({"id": r["id"], "ok": False, "error": "agent: %s: %s" % (type(e).__name__, e)})

    def op_ping(self, _):
        return {"host": os.uname().nodename, "kernel": os.uname().release, "uptime": time.monotonic()}

    def op_dmesg(self, r):
        return {"text": subprocess.run(["dmesg"], capture_output=True, check=False).stdout.decode("utf-8", "replace")}

    def op_run(self, r):
        """A shell command; answered when it ends."""
        out, err = open_scratch(), open_scratch()
        uid = r.get("uid")
        process = subprocess.Popen(
            ["/bin/sh", "-c", r["sh"]],
            stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd="/", start_new_session=True,
            user=uid, group=r.get("gid"), extra_groups=r.get("groups", []) if uid is not None else None,
        )
        pidfd = os.pidfd_open(process.pid)
        began = time.monotonic()

        def ended():
            self.selector.unregister(pidfd)
            os.close(pidfd)
            rc = process.wait()
            texts = []
            for f in (out, err):
                f.seek(0)
                texts.append(f.read(MAX_OUTPUT).decode("utf-8", "replace"))
                f.close()
            seconds = time.monotonic() - began
            self.send({"id": r["id"], "ok": True, "seconds": seconds, "result": {"rc": rc, "out": texts[0], "err": texts[1]}})

        self.selector.register(pidfd, selectors.EVENT_READ, ended)

    def op_spawn(self, r):
        name = r["owner"]
        if name in self.owners:
            raise ValueError("owner %r exists" % name)
        down_r, down_w = os.pipe()
        up_r, up_w = os.pipe()
        pid = os.fork()
        if pid == 0:
            self.become_owner(r, down_r, up_w)
        os.close(down_r)
        os.close(up_w)
        owner = {"pid": pid, "down": down_w, "up": up_r, "open": {}, "rest": b""}
        self.owners[name] = owner
        self.selector.register(up_r, selectors.EVENT_READ, lambda: self.owner_readable(name))
        return {"pid": pid}

    def become_owner(self, r, down, up):
        try:
            os.dup2(down, 3)
            os.dup2(up, 4)
            os.closerange(5, 4096)
            signal.signal(signal.SIGUSR1, interrupted)
            if r.get("uid") is not None:
                os.setgroups(r.get("groups", []))
                os.setgid(r.get("gid", r["uid"]))
                os.setuid(r["uid"])
            Owner().serve(os.fdopen(3, "r"), os.fdopen(4, "w"))
        except BaseException as e:  # never fall back into the agent's loop
            sys.stderr.write("owner: %r\n" % e)
        os._exit(0)

    def forward(self, r):
        owner = self.owners[r["owner"]]
        owner["open"][r["id"]] = True
        os.write(owner["down"], (json.dumps(r) + "\n").encode())

    def owner_readable(self, name):
        owner = self.owners[name]
        data = os.read(owner["up"], 65536)
        if data:
            lines = (owner["rest"] + data).split(b"\n")
            owner["rest"] = lines.pop()
            for line in lines:
                answer = json.loads(line)
                owner["open"].pop(answer["id"], None)
                self.send(answer)
            return
        self.selector.unregister(owner["up"])
        os.close(owner["up"])
        os.close(owner["down"])
        _, status = os.waitpid(owner["pid"], 0)
        del self.owners[name]
        for request in owner["open"]:
            self.send({"id": request, "ok": False, "died": os.waitstatus_to_exitcode(status), "error": "the owner ended"})

    def op_kill(self, r):
        """A signal to an owner; SIGUSR1 interrupts whatever system call it is in."""
        os.kill(self.owners[r["owner"]]["pid"], getattr(signal, r["signal"]))
        return {}

    def op_owners(self, _):
        return {"owners": sorted(self.owners)}

    def loop(self):
        self.send({"event": "ready", "host": os.uname().nodename})
        while True:
            for key, _ in self.selector.select():
                key.data()


def open_scratch():
    path = "/tmp/agent-%d" % time.monotonic_ns()
    f = open(path, "w+b")
    os.unlink(path)
    return f


def find_port():
    base = "/sys/class/virtio-ports"
    while True:
        for port in os.listdir(base) if os.path.isdir(base) else []:
            with open("%s/%s/name" % (base, port)) as f:
                if f.read().strip() == PORT_NAME:
                    return os.open("/dev/" + port, os.O_RDWR)
        time.sleep(0.05)


if __name__ == "__main__":
    Agent(find_port()).loop()
