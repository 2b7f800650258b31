//! What the helper program for GPU evidence may not call. It runs a library of NVIDIA's whose calls nobody lists, so this
//! is a deny-list: nothing that starts a process, leaves the process group, connects beyond local sockets, looks into
//! other processes, or changes the machine.

use seccompiler::{BackendError, SeccompRule};

use super::Rules;
use super::container::{differs_from, masked};

/// Calls of the x32 ABI pass as native ones with this bit; the kernel of the image has none.
const X32: i64 = 0x4000_0000;

pub(super) fn denied() -> Result<Rules, BackendError> {
    let mut rules = Rules::new();
    for number in CALLS.iter().flat_map(|number| [*number, *number | X32]).chain(OF_X32) {
        rules.insert(number, Vec::new());
    }
    for bit in [0, X32] {
        // Threads only.
        let process = masked(0, libc::CLONE_THREAD as u64, 0)?;
        rules.insert(libc::SYS_clone | bit, vec![SeccompRule::new(vec![process])?]);
        for number in [libc::SYS_socket, libc::SYS_socketpair] {
            let family = differs_from(0, libc::AF_UNIX as u64)?;
            rules.insert(number | bit, vec![SeccompRule::new(vec![family])?]);
        }
    }
    Ok(rules)
}

const CALLS: &[i64] = &[
    // Processes, and what would hide one from its parent.
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_setsid,
    libc::SYS_setpgid,
    libc::SYS_unshare,
    libc::SYS_setns,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp,
    // Ways around the filter, and doors into the kernel.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // The machine.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_open_by_handle_at,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_fanotify_init,
];

/// ptrace, kexec_load, process_vm_readv and process_vm_writev have numbers of their own there.
const OF_X32: [i64; 4] = [X32 | 521, X32 | 528, X32 | 539, X32 | 540];
