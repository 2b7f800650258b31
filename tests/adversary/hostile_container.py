"""A training script that tries every door out of its container.

Prints one line for each: `door <name>: closed (<why>)` or `door <name>: OPEN`. Ends with 0 either
way: the reader of the lines judges. Needs nothing but the standard library of CPython on x86-64.
"""

import ctypes
import errno
import mmap
import os
import signal
import socket
import struct

libc = ctypes.CDLL(None, use_errno=True)

AF_ALG, AF_VSOCK, AF_PACKET, AF_XDP, AF_KEY = 38, 40, 17, 44, 15
HOST_CID, LOCAL_CID = 2, 1
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000
PATIENCE_SECONDS = 10


class Closed(Exception):
    """The door did not open; the text says how."""


def syscall(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) for a in arguments])
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def in_child(body):
    """Runs `body` in a child: it opened the door if it exits with 0."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code, why = 1, b""
        try:
            signal.alarm(PATIENCE_SECONDS)
            body()
            code = 0
        except Closed as closed:
            why = str(closed).encode()
        except OSError as error:
            why = name_of(error).encode()
        except BaseException as error:  # the child must always end here
            why = type(error).__name__.encode()
        os.write(writing, why)
        os._exit(code)
    os.close(writing)
    why = os.read(reading, 200).decode(errors="replace")
    os.close(reading)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        raise Closed(signal.Signals(os.WTERMSIG(status)).name)
    if os.WEXITSTATUS(status) != 0:
        raise Closed(why or "exit %d" % os.WEXITSTATUS(status))


def name_of(error):
    return errno.errorcode.get(error.errno, str(error.errno))


# Sockets


def vsock_socket():
    socket.socket(AF_VSOCK, socket.SOCK_STREAM)


def vsock_datagram():
    socket.socket(AF_VSOCK, socket.SOCK_DGRAM)


def vsock_device():
    os.open("/dev/vsock", os.O_RDONLY)


def family(number, kind):
    return lambda: socket.socket(number, kind)


def raw_ip():
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)


def other_ip_protocol():
    socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)  # MPTCP


def ip_beyond_loopback():
    probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    probe.settimeout(2)
    try:
        probe.connect(("192.0.2.1", 80))
    except TimeoutError:
        raise Closed("timed out")


def abstract_unix_sockets_of_others():
    """The network namespace has its own abstract names: only this container's may be listed."""
    with open("/proc/net/unix") as listing:
        if len(listing.readlines()) > 1:
            return
    raise Closed("none listed")


# io_uring: by itself, and as the way to a socket that seccomp forbids


def io_uring_setup():
    parameters = ctypes.create_string_buffer(120)
    syscall(425, 4, ctypes.addressof(parameters))


def io_uring_vsock():
    """IORING_OP_SOCKET makes a socket without the socket system call."""
    entries, IORING_OP_SOCKET = 4, 45
    parameters = ctypes.create_string_buffer(120)
    ring = syscall(425, entries, ctypes.addressof(parameters))
    fields = struct.unpack_from("IIIIIIIIII" + "I" * 20, parameters.raw)
    sq_entries, cq_entries = fields[0], fields[1]
    sq_tail, sq_array = fields[11], fields[16]
    cq_head, cq_tail, cq_cqes = fields[20], fields[21], fields[25]
    rings = mmap.mmap(ring, max(sq_array + sq_entries * 4, cq_cqes + cq_entries * 16))
    sqes = mmap.mmap(ring, sq_entries * 64, offset=0x10000000)
    struct.pack_into("BBHiQQIIQ", sqes, 0, IORING_OP_SOCKET, 0, 0, AF_VSOCK, 1, 0, 0, 0, 0)
    struct.pack_into("I", rings, sq_array, 0)
    struct.pack_into("I", rings, sq_tail, 1)
    syscall(426, ring, 1, 1, 1, 0, 0)
    if struct.unpack_from("I", rings, cq_tail) == struct.unpack_from("I", rings, cq_head):
        raise Closed("no completion")
    result = struct.unpack_from("QiI", rings, cq_cqes)[1]
    if result < 0:
        raise OSError(-result, "")


# Other system call tables


def machine_code(code):
    memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    result = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
    if -4096 < result < 0:
        raise OSError(-result, "")
    return result


def int_0x80():
    """socket(AF_VSOCK) through the 32-bit table: push rbx; eax = 359; int 0x80."""
    in_child(
        lambda: machine_code(
            b"\x53\xb8\x67\x01\x00\x00\xbb\x28\x00\x00\x00"
            b"\xb9\x01\x00\x00\x00\x31\xd2\xcd\x80\x5b\xc3"
        )
    )


def x32():
    """socket(AF_VSOCK) with the x32 bit."""
    in_child(lambda: syscall(0x40000000 | 41, AF_VSOCK, 1, 0))


# The guest's kernel


def opened(path, flags, body):
    handle = os.open(path, flags)
    try:
        if os.fstat(handle).st_rdev == os.makedev(1, 3):
            raise Closed("masked")
        body(handle)
    finally:
        os.close(handle)


def write_file(path, text):
    return lambda: opened(path, os.O_WRONLY, lambda handle: os.write(handle, text))


def read_file(path):
    def body(handle):
        if not os.read(handle, 16):
            raise Closed("empty")

    return lambda: opened(path, os.O_RDONLY, body)


def core_pattern_by_proc_mount():
    os.mkdir("/tmp/proc")
    if libc.mount(b"proc", b"/tmp/proc", b"proc", 0, None) != 0:
        raise OSError(ctypes.get_errno(), "")


def device_node():
    os.mknod("/tmp/mem", 0o600 | 0o020000, os.makedev(1, 1))


def module():
    syscall(313, 0, ctypes.addressof(ctypes.create_string_buffer(1)), 0)


def bpf():
    attributes = ctypes.create_string_buffer(struct.pack("IIII", 1, 4, 4, 1), 128)
    syscall(321, 0, ctypes.addressof(attributes), 128)


def perf():
    attributes = ctypes.create_string_buffer(struct.pack("II", 1, 128), 128)
    syscall(298, ctypes.addressof(attributes), 0, -1 & 0xFFFFFFFF, -1 & 0xFFFFFFFF, 0)


def keyring():
    syscall(250, 0, -3, 1)


def add_key():
    kind, description = ctypes.c_char_p(b"user"), ctypes.c_char_p(b"door")
    libc.syscall.restype = ctypes.c_long
    ctypes.set_errno(0)
    if libc.syscall(ctypes.c_long(248), kind, description, b"x", ctypes.c_size_t(1), -2) < 0:
        raise OSError(ctypes.get_errno(), "")


def kernel_log():
    buffer = ctypes.create_string_buffer(256)
    syscall(103, 3, ctypes.addressof(buffer), 256)


def reboot():
    """CAD_OFF: changes nothing that matters, needs the same permission."""
    syscall(169, 0xFEE1DEAD, 672274793, 0, 0)


def clock():
    now = ctypes.create_string_buffer(struct.pack("qq", 1_000_000_000, 0))
    syscall(227, 0, ctypes.addressof(now))


def swap():
    syscall(167, ctypes.addressof(ctypes.create_string_buffer(b"/tmp/swap")), 0)


# Namespaces, mounts, other processes


def unshare(flags):
    return lambda: in_child(lambda: syscall(272, flags))


def clone_user_namespace():
    child = syscall(56, CLONE_NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def clone3_user_namespace():
    arguments = ctypes.create_string_buffer(struct.pack("QQQQQ", CLONE_NEWUSER, 0, 0, 0, 17), 64)
    child = syscall(435, ctypes.addressof(arguments), 64)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def enter_namespace():
    handle = os.open("/proc/1/ns/net", os.O_RDONLY)
    syscall(308, handle, 0)


def mount_tmpfs():
    ctypes.set_errno(0)
    if libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None) != 0:
        raise OSError(ctypes.get_errno(), "")


def unmask_proc():
    ctypes.set_errno(0)
    if libc.umount2(b"/proc/sys", 2) != 0:
        raise OSError(ctypes.get_errno(), "")


def chroot():
    in_child(lambda: os.chroot("/tmp"))


def file_handle():
    syscall(304, -100, 0, 0)


def trace(process):
    def door():
        syscall(101, 16, process, 0, 0)

    return door


def read_memory_of_init():
    local = ctypes.create_string_buffer(8)
    vector = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(local), 8))
    syscall(310, os.getppid() or 1, ctypes.addressof(vector), 1, ctypes.addressof(vector), 1, 0)


def other_processes():
    """Sees only this container's processes: the agent's are none of them."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with open("/proc/%s/cmdline" % entry, "rb") as line:
                if b"sealtune" in line.read():
                    return
    raise Closed("not seen")


def capabilities():
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("Cap") and int(line.split()[1], 16) != 0:
                return
    raise Closed("none")


def new_privileges():
    with open("/proc/self/status") as status:
        if "NoNewPrivs:\t1\n" in status.read():
            raise Closed("no_new_privs")


def core_dumps():
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20))
    except ValueError:
        raise Closed("hard limit")


# Files


def write_root():
    with open("/usr/door", "w"):
        pass


def tee_device():
    for path in ("/dev/tdx_guest", "/dev/sev-guest", "/sys/kernel/config/tsm"):
        if os.path.exists(path):
            return
    raise Closed("not there")


def layer_disks():
    found = [n for n in os.listdir("/dev") if n.startswith(("vd", "dm-", "sd", "mapper", "mem"))]
    if not found:
        raise Closed("none in /dev")


def inherited_descriptors():
    """Standard streams and the events pipe are all that may be open; tried before other doors."""
    extra = []
    for entry in os.listdir("/proc/self/fd"):
        if int(entry) > 3:
            try:
                extra.append(os.readlink("/proc/self/fd/" + entry))
            except FileNotFoundError:
                pass  # the listing's own
    if not extra:
        raise Closed("none")
    print("inherited: %s" % extra)


def cgroup_escape():
    with open("/sys/fs/cgroup/cgroup.procs", "w") as processes:
        processes.write(str(os.getpid()))


def fork_without_end():
    """The limit on processes holds."""
    children = []
    try:
        for _ in range(100_000):
            child = os.fork()
            if child == 0:
                signal.pause()
                os._exit(0)
            children.append(child)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)


DOORS = [
    ("inherited-descriptors", inherited_descriptors),
    ("vsock-socket", vsock_socket),
    ("vsock-datagram", vsock_datagram),
    ("vsock-device", vsock_device),
    ("vsock-by-io-uring", io_uring_vsock),
    ("vsock-by-int-0x80", int_0x80),
    ("vsock-by-x32", x32),
    ("io-uring", io_uring_setup),
    ("socket-alg", family(AF_ALG, socket.SOCK_SEQPACKET)),
    ("socket-netlink", family(socket.AF_NETLINK, socket.SOCK_RAW)),
    ("socket-packet", family(AF_PACKET, socket.SOCK_RAW)),
    ("socket-xdp", family(AF_XDP, socket.SOCK_RAW)),
    ("socket-key", family(AF_KEY, socket.SOCK_RAW)),
    ("socket-raw-ip", raw_ip),
    ("socket-other-ip-protocol", other_ip_protocol),
    ("ip-beyond-loopback", ip_beyond_loopback),
    ("abstract-unix-sockets", abstract_unix_sockets_of_others),
    ("kmsg-write", write_file("/dev/kmsg", b"door\n")),
    ("kmsg-read", read_file("/proc/kmsg")),
    ("console", write_file("/dev/console", b"door\n")),
    ("serial-port", write_file("/dev/ttyS0", b"door\n")),
    ("terminal", write_file("/dev/tty", b"door\n")),
    ("kernel-log", kernel_log),
    ("sysrq", write_file("/proc/sysrq-trigger", b"h")),
    ("sysctl-vsock", write_file("/proc/sys/net/vsock/child_ns_mode", b"global\n")),
    ("sysctl-io-uring", write_file("/proc/sys/kernel/io_uring_disabled", b"0\n")),
    ("sysctl-core-pattern", write_file("/proc/sys/kernel/core_pattern", b"|/tmp/x\n")),
    ("sysctl-modprobe", write_file("/proc/sys/kernel/modprobe", b"/tmp/x\n")),
    ("sysctl-hostname", write_file("/proc/sys/kernel/hostname", b"door\n")),
    ("kernel-memory", read_file("/dev/mem")),
    ("kernel-core", read_file("/proc/kcore")),
    ("kernel-symbols", read_file("/proc/kallsyms")),
    ("sysfs", read_file("/sys/kernel/notes")),
    ("debugfs", lambda: os.listdir("/sys/kernel/debug")),
    ("device-node", device_node),
    ("module", module),
    ("bpf", bpf),
    ("perf", perf),
    ("userfaultfd", lambda: syscall(323, 0)),
    ("keyctl", keyring),
    ("add-key", add_key),
    ("reboot", reboot),
    ("kexec", lambda: syscall(246, 0, 0, 0, 0)),
    ("clock", clock),
    ("swap", swap),
    ("port-access", lambda: syscall(172, 3)),
    ("unshare-user", unshare(CLONE_NEWUSER)),
    ("unshare-net", unshare(CLONE_NEWNET)),
    ("unshare-mount", unshare(CLONE_NEWNS)),
    ("clone-user", clone_user_namespace),
    ("clone3-user", clone3_user_namespace),
    ("setns", enter_namespace),
    ("mount", mount_tmpfs),
    ("mount-proc", core_pattern_by_proc_mount),
    ("umount-proc-sys", unmask_proc),
    ("fsopen", lambda: syscall(430, 0, 0)),
    ("chroot", chroot),
    ("open-by-handle", file_handle),
    ("trace-first-process", trace(1)),
    ("trace-parent", trace(os.getppid())),
    ("trace-me", lambda: in_child(lambda: syscall(101, 0, 0, 0, 0))),
    ("read-memory", read_memory_of_init),
    ("pidfd-getfd", lambda: syscall(438, 0, 0, 0)),
    ("other-processes", other_processes),
    ("capabilities", capabilities),
    ("new-privileges", new_privileges),
    ("personality", lambda: syscall(135, 0x0040000)),
    ("core-dumps", core_dumps),
    ("write-root", write_root),
    ("tee-device", tee_device),
    ("layer-disks", layer_disks),
    ("cgroup", cgroup_escape),
    ("fork-without-end", fork_without_end),
]


def main():
    for name, door in DOORS:
        try:
            door()
            print("door %s: OPEN" % name, flush=True)
        except Closed as closed:
            print("door %s: closed (%s)" % (name, closed), flush=True)
        except OSError as error:
            print("door %s: closed (%s)" % (name, name_of(error)), flush=True)


if __name__ == "__main__":
    main()
