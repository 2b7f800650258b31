//! Every reason for which there is no evidence: one code for one cause, with what to do about it. The table in the README
//! has the same texts.

macro_rules! table {
    ($($name:ident $code:literal $cause:literal $fix:literal)*) => {
        /// A cause, with its stable code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum Code { $($name),* }

        impl Code {
            #[cfg(test)]
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name),*];

            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            #[cfg(test)]
            pub(crate) fn cause(self) -> &'static str {
                match self { $(Self::$name => $cause),* }
            }

            pub(crate) fn fix(self) -> &'static str {
                match self { $(Self::$name => $fix),* }
            }
        }
    };
}

table! {
    RequestTooLong "ST-GPUE-01"
        "the request is longer than 8 KiB"
        "ask for at most 16 GPUs or 8 switches, with short names"
    RequestUnreadable "ST-GPUE-02"
        "the request cannot be read, or is not a JSON document of this form"
        "check that agent and layer are of the same release"
    RequestVersion "ST-GPUE-03"
        "the request has a version that this program does not know"
        "check that agent and layer are of the same release"
    RequestField "ST-GPUE-04"
        "a value in the request is out of its limits"
        "correct the value that is named"
    LibraryLoad "ST-GPUE-10"
        "the driver's library libnvidia-ml.so.1 cannot be loaded"
        "put the library of the driver's release beside this program's other libraries"
    LibraryFunction "ST-GPUE-11"
        "the driver's library lacks a function"
        "use a driver of release 550 or newer"
    LibraryCall "ST-GPUE-12"
        "a call of the driver's library failed"
        "see the call's status and the kernel log; the device nodes must be there and open to this user"
    DriverText "ST-GPUE-13"
        "a version that the driver gives is no short text"
        "report this against the driver's release"
    DriverBus "ST-GPUE-14"
        "a PCI address that the driver gives is none"
        "report this against the driver's release"
    DeviceMissing "ST-GPUE-20"
        "the driver does not have a GPU that was asked for"
        "see the kernel log: the driver did not take this GPU"
    DeviceUnasked "ST-GPUE-21"
        "the driver has a GPU that was not asked for, or one twice"
        "ask for every GPU of the machine"
    CcOff "ST-GPUE-30"
        "confidential computing is off on these GPUs"
        "the provider must switch the GPUs to CC mode"
    CcValue "ST-GPUE-31"
        "the driver gives a confidential computing, MIG or ready state that this program does not know"
        "update this program"
    ArchitectureOther "ST-GPUE-32"
        "the GPU is of an architecture that this program does not know"
        "use a Hopper or Blackwell GPU; or update this program"
    ReportLength "ST-GPUE-40"
        "the device's report is longer than its buffer, or cut short"
        "ask again; report it against the driver's release if it stays"
    ReportForm "ST-GPUE-41"
        "the device's report is not an SPDM 1.1 request for all measurements and its answer"
        "update this program if the device's firmware is newer"
    ReportPadding "ST-GPUE-42"
        "bytes other than zeros follow the device's report"
        "report this against the driver's release"
    ReportNonce "ST-GPUE-43"
        "the device's report was made for another challenge"
        "ask again; report it against the driver's release if it stays"
    CertificatesLength "ST-GPUE-44"
        "the device's certificates are longer than their buffer"
        "ask again; report it against the driver's release if it stays"
    CertificatesForm "ST-GPUE-45"
        "the device's certificates are no PEM text"
        "ask again; report it against the driver's release if it stays"
    ReadyRefused "ST-GPUE-50"
        "the GPUs do not take work though they were told to"
        "start this program with CAP_SYS_ADMIN; after a fatal failure a GPU takes no work before its next reset"
    SwitchLibraryLoad "ST-GPUE-60"
        "the library for NVSwitches, libnvidia-nscq.so.2, cannot be loaded"
        "put the library of the driver's release beside this program's other libraries"
    SwitchLibraryFunction "ST-GPUE-61"
        "the library for NVSwitches lacks a function"
        "use the library of a driver of release 550 or newer"
    SwitchLibraryGeneration "ST-GPUE-62"
        "the library for NVSwitches is of a generation that this program does not know"
        "use the library of the driver's release; or update this program"
    SwitchLibraryCall "ST-GPUE-63"
        "a call of the library for NVSwitches failed, or gave a warning"
        "see the call's code and the kernel log; library and driver must be of one release, and this program needs CAP_SYS_ADMIN for switches"
    SwitchLibraryAnswer "ST-GPUE-64"
        "the library for NVSwitches does not answer once for each switch that it is asked about"
        "ask again; report it against the library's release if it stays"
    SwitchCount "ST-GPUE-65"
        "the driver has more or fewer NVSwitches than were asked for"
        "ask for every switch of the machine; see the kernel log if the driver did not take one"
    SwitchTwice "ST-GPUE-66"
        "the driver has an NVSwitch twice"
        "report this against the library's release"
    SwitchArchitecture "ST-GPUE-67"
        "an NVSwitch is no LS10, and no other gives evidence"
        "use a machine with Hopper GPUs; or update this program"
    SwitchMode "ST-GPUE-68"
        "an NVSwitch is in a mode that this program does not know"
        "update this program"
    SwitchModeOff "ST-GPUE-69"
        "an NVSwitch is not in the mode for protected PCIe, and has no evidence then"
        "the provider must switch the whole machine to protected PCIe mode"
    SwitchBios "ST-GPUE-70"
        "an NVSwitch's report names no BIOS version, or none of its form"
        "update this program if the switch's firmware is newer"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_readme_has_this_table() {
        let readme = include_str!("../README.md");
        let found: Vec<&str> =
            readme.lines().filter(|line| line.starts_with("| ST-GPUE-")).collect();
        let rows: Vec<String> = Code::ALL
            .iter()
            .map(|code| format!("| {} | {} | {} |", code.as_str(), code.cause(), code.fix()))
            .collect();
        assert_eq!(found, rows);
        let unique: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(unique.len(), rows.len());
    }
}
