#![expect(unsafe_code, reason = "raw system calls are what is tested")]

use super::*;

/// Runs in a thread of its own, which ends with the filters it got.
fn filtered<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    filtered_by(Filters::for_container().unwrap(), body)
}

fn filtered_by<T: Send + 'static>(
    filters: Filters,
    body: impl FnOnce() -> T + Send + 'static,
) -> T {
    std::thread::spawn(move || {
        filters.install().unwrap();
        body()
    })
    .join()
    .unwrap()
}

fn errno(number: i64, a: i64, b: i64, c: i64) -> i32 {
    // SAFETY: the numbers used here take integers, or fail before they read a pointer.
    let result = unsafe { libc::syscall(number, a, b, c, 0, 0, 0) };
    if result >= 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap() }
}

#[test]
fn listed_families_and_protocols_only() {
    let results = filtered(|| {
        let stream = i64::from(libc::SOCK_STREAM);
        let dgram = i64::from(libc::SOCK_DGRAM);
        let open = |family: i32, kind, protocol: i32| {
            errno(libc::SYS_socket, family.into(), kind, protocol.into())
        };
        [
            open(libc::AF_UNIX, stream, 0),
            open(libc::AF_INET, stream, 0),
            open(libc::AF_INET, dgram, libc::IPPROTO_UDP),
            open(libc::AF_VSOCK, stream, 0),
            open(libc::AF_ALG, i64::from(libc::SOCK_SEQPACKET), 0),
            open(libc::AF_NETLINK, i64::from(libc::SOCK_RAW), 0),
            open(libc::AF_PACKET, i64::from(libc::SOCK_RAW), 0),
            open(libc::AF_INET, stream, 262),
            errno(libc::SYS_socketpair, libc::AF_VSOCK.into(), stream, 0),
        ]
    });
    let no = libc::EPERM;
    assert_eq!(results, [0, 0, 0, no, no, no, no, no, no]);
}

#[test]
fn closed_calls() {
    let results = filtered(|| {
        [
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_getfd,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_fsopen,
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_mount_setattr,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_kexec_load,
            libc::SYS_kexec_file_load,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
            libc::SYS_reboot,
            libc::SYS_swapon,
            libc::SYS_open_by_handle_at,
            libc::SYS_syslog,
            libc::SYS_iopl,
            libc::SYS_ioperm,
            libc::SYS_modify_ldt,
            libc::SYS_clock_settime,
            libc::SYS_fanotify_init,
            libc::SYS_memfd_secret,
            libc::SYS_quotactl,
            libc::SYS_vmsplice,
            // A call of the x32 ABI, and one that does not exist.
            libc::SYS_getpid | 0x4000_0000,
            9999,
        ]
        .map(|number| (number, errno(number, 0, 0, 0)))
    });
    for (number, errno) in results {
        assert_eq!(errno, libc::EPERM, "system call {number}");
    }
}

#[test]
fn namespaces_are_closed_and_clone3_is_absent() {
    let results = filtered(|| {
        let flags = |new: i32| errno(libc::SYS_clone, (new | libc::SIGCHLD).into(), 0, 0);
        [
            flags(libc::CLONE_NEWUSER),
            flags(libc::CLONE_NEWNET),
            flags(libc::CLONE_NEWNS | libc::CLONE_NEWPID),
            errno(libc::SYS_clone3, 0, 0, 0),
            errno(libc::SYS_personality, 0x0008, 0, 0),
            errno(libc::SYS_personality, 0xffff_ffff, 0, 0),
            errno(libc::SYS_ioctl, 0, libc::TIOCSTI as i64, 0),
        ]
    });
    let no = libc::EPERM;
    assert_eq!(results, [no, no, no, libc::ENOSYS, no, 0, no]);
}

#[test]
fn threads_and_processes_still_work() {
    let sum = filtered(|| {
        let threads: Vec<_> = (0..4).map(|i| std::thread::spawn(move || i)).collect();
        let sum: i32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        let child = std::process::Command::new("true").status().unwrap();
        (sum, child.success())
    });
    assert_eq!(sum, (6, true));
}

#[test]
fn the_gpu_helper_starts_nothing_and_connects_to_nothing() {
    let results = filtered_by(Filters::for_gpu_helper().unwrap(), || {
        let stream = i64::from(libc::SOCK_STREAM);
        let opened = [libc::AF_UNIX, libc::AF_INET, libc::AF_VSOCK, libc::AF_NETLINK]
            .map(|family| errno(libc::SYS_socket, family.into(), stream, 0));
        let started = [
            errno(libc::SYS_fork, 0, 0, 0),
            errno(libc::SYS_vfork, 0, 0, 0),
            errno(libc::SYS_clone, libc::SIGCHLD.into(), 0, 0),
            errno(libc::SYS_clone, (libc::CLONE_VM | libc::CLONE_VFORK).into(), 0, 0),
            errno(libc::SYS_clone3, 0, 0, 0),
            errno(libc::SYS_setsid, 0, 0, 0),
            errno(libc::SYS_ptrace, 0, 0, 0),
            errno(libc::SYS_io_uring_setup, 0, 0, 0),
            errno(libc::SYS_mount, 0, 0, 0),
            errno(libc::SYS_mount | 0x4000_0000, 0, 0, 0),
        ];
        let threads: Vec<_> = (0..4).map(|i| std::thread::spawn(move || i)).collect();
        let sum: i32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        (opened, started, sum)
    });
    let no = libc::EPERM;
    let started = [no, no, no, no, libc::ENOSYS, no, no, no, no, no];
    assert_eq!(results, ([0, no, no, no], started, 6));
}
