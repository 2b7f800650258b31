//! The system calls that untrusted work may make: allow-lists for the native ABI, one for the
//! program in a container and one for the process that unpacks archives; a deny-list for the GPU
//! helper. A call of another ABI ends the process.

mod container;
mod gpu;
mod unpack;

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Filters in the order in which they are installed.
#[derive(Debug, Clone)]
pub(crate) struct Filters {
    programs: Vec<BpfProgram>,
}

impl Filters {
    /// What is not listed fails with EPERM.
    pub(crate) fn for_container() -> Result<Self, String> {
        let absent = without_clone3()?;
        let listed = compile(
            container::allowed().map_err(|error| error.to_string())?,
            SeccompAction::Errno(libc::EPERM as u32),
            SeccompAction::Allow,
        )?;
        Ok(Self { programs: vec![absent, listed] })
    }

    /// What is not listed ends the process: our own code does not make it, so somebody else's runs.
    pub(crate) fn for_unpacking() -> Result<Self, String> {
        let listed = compile(unpack::allowed(), SeccompAction::KillProcess, SeccompAction::Allow)?;
        Ok(Self { programs: vec![listed] })
    }

    /// What is listed fails with EPERM.
    pub(crate) fn for_gpu_helper() -> Result<Self, String> {
        let absent = without_clone3()?;
        let listed = compile(
            gpu::denied().map_err(|error| error.to_string())?,
            SeccompAction::Allow,
            SeccompAction::Errno(libc::EPERM as u32),
        )?;
        Ok(Self { programs: vec![absent, listed] })
    }

    /// For the calling thread and what it starts; there is no way back.
    pub(crate) fn install(&self) -> Result<(), String> {
        for program in &self.programs {
            seccompiler::apply_filter(program).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// The same between fork and exec: without an error's text, which would be allocated.
    pub(crate) fn install_in_child(&self) -> std::io::Result<()> {
        for program in &self.programs {
            seccompiler::apply_filter(program)
                .map_err(|_| std::io::Error::from_raw_os_error(libc::EACCES))?;
        }
        Ok(())
    }
}

/// clone3 takes its flags by pointer, so no filter can see them. Without it libc falls back to clone.
fn without_clone3() -> Result<BpfProgram, String> {
    compile(
        [(libc::SYS_clone3, vec![])].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
    )
}

fn compile(
    rules: Rules,
    otherwise: SeccompAction,
    matching: SeccompAction,
) -> Result<BpfProgram, String> {
    SeccompFilter::new(rules, otherwise, matching, TargetArch::x86_64)
        .and_then(BpfProgram::try_from)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
