//! Reads a created but not yet started container back from the kernel: what was asked for is not
//! believed until /proc says so.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::protocol::ContainerRequest;
use super::spec::ID_COUNT;

const MAX_FILE_BYTES: u64 = 256 * 1024;
const SECCOMP_FILTER_MODE: &str = "2";
const OWN_NAMESPACES: [&str; 7] = ["user", "pid", "ipc", "uts", "mnt", "cgroup", "net"];

pub(crate) fn verify(pid: i32, request: &ContainerRequest) -> Result<(), String> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    check_status(&read(&folder.join("status"))?, request.uid_base)?;
    check_limits(&read(&folder.join("limits"))?)?;
    check_id_map(&read(&folder.join("uid_map"))?, request.uid_base)?;
    check_id_map(&read(&folder.join("gid_map"))?, request.uid_base)?;
    check_root_mount(&read(&folder.join("mountinfo"))?)?;
    let cgroup = read(&folder.join("cgroup"))?;
    let wanted = super::cgroup::path_of(&request.id);
    if cgroup.trim_end().strip_prefix("0::").map(Path::new) != Some(wanted.as_path()) {
        return Err(format!("the cgroup is {}", cgroup.trim_end()));
    }
    for name in OWN_NAMESPACES {
        let link = |folder: &Path| {
            fs::read_link(folder.join("ns").join(name)).map_err(|error| format!("{name}: {error}"))
        };
        if link(&folder)? == link(Path::new("/proc/self"))? {
            return Err(format!("the {name} namespace is the agent's"));
        }
    }
    Ok(())
}

fn check_status(status: &str, uid_base: u32) -> Result<(), String> {
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
            .ok_or_else(|| format!("{name} is not reported"))
    };
    let expect = |name: &str, wanted: &str| match field(name)? {
        is if is == wanted => Ok(()),
        is => Err(format!("{name} is {is} and not {wanted}")),
    };
    expect("NoNewPrivs", "1")?;
    expect("Seccomp", SECCOMP_FILTER_MODE)?;
    for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        if field(name)?.bytes().any(|digit| digit != b'0') {
            return Err(format!("{name} is not empty"));
        }
    }
    for name in ["Uid", "Gid"] {
        if field(name)?.split_ascii_whitespace().any(|id| id != uid_base.to_string()) {
            return Err(format!("{name} is not {uid_base} throughout"));
        }
    }
    let outside = |group: &str| {
        group.parse().map_or(true, |id: u32| !(uid_base..uid_base + ID_COUNT).contains(&id))
    };
    if field("Groups")?.split_ascii_whitespace().any(outside) {
        return Err("a supplementary group is the agent's".into());
    }
    expect("Threads", "1")
}

fn check_limits(limits: &str) -> Result<(), String> {
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    let mut values = core.unwrap_or_default().split_ascii_whitespace();
    match (values.next(), values.next()) {
        (Some("0"), Some("0")) => Ok(()),
        _ => Err("core dumps are not off".into()),
    }
}

fn check_id_map(map: &str, uid_base: u32) -> Result<(), String> {
    let wanted = ["0".to_owned(), uid_base.to_string(), ID_COUNT.to_string()];
    if map.lines().count() == 1 && map.split_ascii_whitespace().eq(wanted.iter()) {
        return Ok(());
    }
    Err(format!("the id map is {}", map.trim()))
}

fn check_root_mount(mountinfo: &str) -> Result<(), String> {
    // Fields: id, parent, device, root, mount point, options, …
    let mut roots = mountinfo.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(4);
        (fields.next() == Some("/")).then(|| fields.next().unwrap_or_default())
    });
    let options = roots.next().ok_or("no root is mounted")?;
    if roots.next().is_some() {
        return Err("two file systems are mounted on the root".into());
    }
    let has = |wanted| options.split(',').any(|option| option == wanted);
    if has("ro") && has("nosuid") && has("nodev") {
        return Ok(());
    }
    Err(format!("the root is mounted {options}"))
}

fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tx\nUid:\t100000\t100000\t100000\t100000\n\
        Gid:\t100000\t100000\t100000\t100000\nGroups:\t \nThreads:\t1\n\
        CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
        CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n\
        Seccomp_filters:\t2\n";

    #[test]
    fn a_good_status_passes_and_each_wrong_field_does_not() {
        check_status(STATUS, 100_000).unwrap();
        for (right, wrong) in [
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            ("Seccomp:\t2", "Seccomp:\t0"),
            ("Seccomp:\t2\n", ""),
            ("CapEff:\t0000000000000000", "CapEff:\t0000000000000001"),
            ("CapBnd:\t0000000000000000", "CapBnd:\t000001ffffffffff"),
            ("CapAmb:\t0000000000000000\n", ""),
            ("Uid:\t100000", "Uid:\t0"),
            ("Groups:\t ", "Groups:\t0 "),
            ("Threads:\t1", "Threads:\t2"),
        ] {
            assert!(STATUS.contains(right));
            assert!(check_status(&STATUS.replace(right, wrong), 100_000).is_err(), "{wrong}");
        }
        assert!(check_status(&STATUS.replace("Groups:\t ", "Groups:\t100007 "), 100_000).is_ok());
    }

    #[test]
    fn limits_maps_and_roots() {
        assert!(check_limits("Max core file size        0          0          bytes\n").is_ok());
        assert!(check_limits("Max core file size        0          unlimited  bytes\n").is_err());
        assert!(check_limits("").is_err());
        assert!(check_id_map("         0     100000      65536\n", 100_000).is_ok());
        assert!(check_id_map("         0          0 4294967295\n", 100_000).is_err());
        let root = |options| format!("30 1 253:0 / / {options} - erofs /dev/dm-0 ro\n");
        assert!(check_root_mount(&root("ro,nosuid,nodev,relatime")).is_ok());
        assert!(check_root_mount(&root("rw,nosuid,nodev,relatime")).is_err());
        assert!(check_root_mount(&root("ro,nosuid")).is_err());
        assert!(check_root_mount("").is_err());
        assert!(check_root_mount(&root("ro,nosuid,nodev").repeat(2)).is_err());
    }
}
