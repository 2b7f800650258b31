//! The OCI specification of a job's container, made from a request by a pure function.

use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capabilities, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxDevice, LinuxDeviceBuilder,
    LinuxDeviceType, LinuxIdMappingBuilder, LinuxNamespaceBuilder, LinuxNamespaceType,
    LinuxResourcesBuilder, Mount, MountBuilder, PosixRlimit, PosixRlimitBuilder, PosixRlimitType,
    ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};

use super::cgroup;
use super::protocol::{
    ContainerRequest, EVENTS_DESCRIPTOR, EVENTS_VARIABLE, Limits, ReadOnlyBind, WORK_FOLDER,
};

pub(crate) const ID_COUNT: u32 = 65_536;
pub(crate) const OPEN_FILES: u64 = 65_536;
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Each a new one. There is no time namespace: nothing needs another clock.
pub(crate) const NAMESPACES: [LinuxNamespaceType; 7] = [
    LinuxNamespaceType::User,
    LinuxNamespaceType::Pid,
    LinuxNamespaceType::Ipc,
    LinuxNamespaceType::Uts,
    LinuxNamespaceType::Mount,
    LinuxNamespaceType::Cgroup,
    LinuxNamespaceType::Network,
];

const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/config.gz",
    "/proc/interrupts",
    "/proc/iomem",
    "/proc/ioports",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/kmsg",
    "/proc/latency_stats",
    "/proc/modules",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/softirqs",
    "/proc/sysrq-trigger",
    "/proc/timer_list",
    "/proc/timer_stats",
];

const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"];

pub(crate) fn build_spec(request: &ContainerRequest) -> Result<Spec, OciSpecError> {
    let process = ProcessBuilder::default()
        .terminal(false)
        .user(UserBuilder::default().uid(0u32).gid(0u32).umask(0o022u32).build()?)
        .args(request.argv.clone())
        .env(environment(request))
        .cwd(WORK_FOLDER)
        .capabilities(
            LinuxCapabilitiesBuilder::default()
                .bounding(Capabilities::new())
                .effective(Capabilities::new())
                .inheritable(Capabilities::new())
                .permitted(Capabilities::new())
                .ambient(Capabilities::new())
                .build()?,
        )
        .rlimits(rlimits(&request.limits)?)
        .no_new_privileges(true)
        .build()?;
    let ids = || {
        LinuxIdMappingBuilder::default()
            .container_id(0u32)
            .host_id(request.uid_base)
            .size(ID_COUNT)
            .build()
    };
    let mut linux = LinuxBuilder::default()
        .namespaces(
            NAMESPACES
                .iter()
                .map(|kind| LinuxNamespaceBuilder::default().typ(*kind).build())
                .collect::<Result<Vec<_>, _>>()?,
        )
        .uid_mappings(vec![ids()?])
        .gid_mappings(vec![ids()?])
        .cgroups_path(cgroup::path_of(&request.id))
        .resources(
            LinuxResourcesBuilder::default()
                .unified(
                    cgroup::settings(&request.limits)
                        .into_iter()
                        .collect::<std::collections::HashMap<_, _>>(),
                )
                .build()?,
        )
        .masked_paths(MASKED.iter().map(ToString::to_string).collect::<Vec<_>>())
        .readonly_paths(READ_ONLY.iter().map(ToString::to_string).collect::<Vec<_>>())
        .build()?;
    if !request.devices.is_empty() {
        linux.set_devices(Some(devices(&request.devices)?));
    }
    SpecBuilder::default()
        .version("1.0.2")
        .root(RootBuilder::default().path(&request.rootfs).readonly(true).build()?)
        .hostname("sealtune-job")
        .process(process)
        .mounts(mounts(request)?)
        .linux(linux)
        .build()
}

/// In a user namespace they are bound from the agent's /dev, which has their numbers; those here are not used.
fn devices(paths: &[PathBuf]) -> Result<Vec<LinuxDevice>, OciSpecError> {
    let device = |path: &PathBuf| {
        let device = LinuxDeviceBuilder::default().path(path).typ(LinuxDeviceType::C);
        device.major(0i64).minor(0i64).build()
    };
    paths.iter().map(device).collect()
}

fn environment(request: &ContainerRequest) -> Vec<String> {
    let mut all = request.environment.clone();
    all.entry("PATH".into()).or_insert_with(|| DEFAULT_PATH.into());
    all.entry("HOME".into()).or_insert_with(|| "/tmp".into());
    all.insert(EVENTS_VARIABLE.into(), EVENTS_DESCRIPTOR.to_string());
    all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn rlimits(limits: &Limits) -> Result<Vec<PosixRlimit>, OciSpecError> {
    let limit =
        |kind, value: u64| PosixRlimitBuilder::default().typ(kind).hard(value).soft(value).build();
    let mut all = vec![
        limit(PosixRlimitType::RlimitCore, 0)?,
        limit(PosixRlimitType::RlimitNofile, OPEN_FILES)?,
        limit(PosixRlimitType::RlimitNproc, limits.processes())?,
    ];
    if let Some(bytes) = limits.file_bytes {
        all.push(limit(PosixRlimitType::RlimitFsize, bytes)?);
    }
    Ok(all)
}

fn mounts(request: &ContainerRequest) -> Result<Vec<Mount>, OciSpecError> {
    // Memory of these counts towards the container's own limit too.
    let temporary = format!("size={}", request.limits.memory_bytes / 2);
    let mut all = vec![
        mount("proc", "proc", "/proc", &["nosuid", "noexec", "nodev"])?,
        mount("tmpfs", "tmpfs", "/dev", &["nosuid", "noexec", "mode=755", "size=64k"])?,
        mount("tmpfs", "shm", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", &temporary])?,
        mount("tmpfs", "tmpfs", "/tmp", &["nosuid", "nodev", "mode=1777", &temporary])?,
        bind(&request.work_dir, Path::new(WORK_FOLDER), "rw")?,
    ];
    for ReadOnlyBind { source, target } in &request.read_only {
        all.push(bind(source, target, "ro")?);
    }
    Ok(all)
}

fn mount(kind: &str, source: &str, target: &str, options: &[&str]) -> Result<Mount, OciSpecError> {
    MountBuilder::default()
        .typ(kind)
        .source(source)
        .destination(target)
        .options(options.iter().map(ToString::to_string).collect::<Vec<_>>())
        .build()
}

fn bind(source: &Path, target: &Path, access: &str) -> Result<Mount, OciSpecError> {
    MountBuilder::default()
        .typ("bind")
        .source(PathBuf::from(source))
        .destination(PathBuf::from(target))
        .options(["bind", access, "nosuid", "nodev"].map(str::to_owned).to_vec())
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::protocol::tests::request;

    /// The golden file is what a reviewer reads; `UPDATE_GOLDEN=1` writes it anew.
    #[test]
    fn the_specification_is_the_golden_one() {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/src/container/spec.golden.json");
        let mut made = serde_json::to_value(build_spec(&request()).unwrap()).unwrap();
        made.sort_all_objects();
        let made = format!("{made:#}\n");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(golden, &made).unwrap();
        }
        assert_eq!(made, std::fs::read_to_string(golden).unwrap());
    }

    #[test]
    fn gpus_are_the_only_devices_beyond_the_usual_ones() {
        let devices = |request: &ContainerRequest| {
            build_spec(request).unwrap().linux().as_ref().unwrap().devices().clone()
        };
        assert_eq!(devices(&request()), None);
        let paths = ["/dev/nvidiactl", "/dev/nvidia0"].map(PathBuf::from);
        let found = devices(&ContainerRequest { devices: paths.to_vec(), ..request() }).unwrap();
        assert!(found.iter().map(LinuxDevice::path).eq(&paths));
    }

    #[test]
    fn the_events_descriptor_is_announced_and_path_is_set() {
        let environment = environment(&request());
        assert!(environment.contains(&"SEALTUNE_EVENTS_FD=3".to_owned()));
        assert!(environment.iter().any(|line| line.starts_with("PATH=")));
        assert!(environment.contains(&"LANG=C.UTF-8".to_owned()));
    }
}
