//! Every reason for which evidence is refused or doubted: one code for one cause, with what to do about it.
//!
//! The table in this crate's README has the same texts; `sealtune-verify explain` prints them.

/// One row of the table of codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeEntry {
    pub code: &'static str,
    pub cause: &'static str,
    pub fix: &'static str,
}

/// Writes one area's table of codes as an enum: a variant, its stable code, what happened and what to do about it.
#[macro_export]
macro_rules! code_table {
    ($($name:ident $code:literal $cause:literal $fix:literal)*) => {
        /// A cause, with its stable code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($name),* }

        impl Code {
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            pub fn entry(self) -> $crate::codes::CodeEntry {
                match self {
                    $(Self::$name => $crate::codes::CodeEntry {
                        code: $code,
                        cause: $cause,
                        fix: $fix,
                    }),*
                }
            }

            pub fn as_str(self) -> &'static str {
                self.entry().code
            }

            pub fn cause(self) -> &'static str {
                self.entry().cause
            }

            pub fn fix(self) -> &'static str {
                self.entry().fix
            }
        }

        impl $crate::verdict::Cause for Code {
            fn code(self) -> &'static str {
                self.as_str()
            }

            fn text(self) -> &'static str {
                self.cause()
            }
        }
    };
}

crate::code_table! {
    LaunchUnreadable "ST-EVID-01"
        "the launch configuration is too long, not canonical JSON, or has unknown fields"
        "take the bytes from the agent unchanged; check that both sides run the same release"
    LaunchVersion "ST-EVID-02"
        "the launch configuration has a version that this program does not know"
        "update this program"
    LaunchField "ST-EVID-03"
        "a value in the launch configuration is out of its limits"
        "correct the named field where the VM is defined"
    LaunchZero "ST-EVID-04"
        "the measured launch digest is zero: the VM was started without a launch configuration"
        "start the VM with the MRCONFIGID or HOST_DATA of its launch configuration"
    LaunchForm "ST-EVID-05"
        "MRCONFIGID is not of Sealtune's form"
        "do not trust this VM; another system started it"
    LaunchMismatch "ST-EVID-06"
        "the CPU measured another launch configuration than the one presented"
        "do not trust this VM; ask for new evidence with its own launch configuration"
    RegistersNone "ST-EVID-07"
        "there is a log of run-time registers, which an SEV-SNP VM does not have"
        "ask for new evidence; what such a log says proves nothing"
    ImagesOther "ST-EVID-09"
        "the policy admits dstack's images only, and this is evidence of one of Sealtune's"
        "judge it with a policy for Sealtune's images, like strict"
    TeeOther "ST-EVID-08"
        "the evidence carries collateral of another kind of TEE than its own"
        "pass the file as the provider sent it"
    ClaimsUnreadable "ST-EVID-10"
        "the claims are too long, not canonical JSON, or have unknown fields"
        "take the bytes from the agent unchanged; check that both sides run the same release"
    ClaimsNonceZero "ST-EVID-11"
        "the claims carry a nonce of zeros"
        "ask with 32 random bytes"
    ClaimsInstanceZero "ST-EVID-12"
        "the claims carry an instance of zeros"
        "do not trust this VM; its agent had no random numbers"
    ClaimsHpkeKey "ST-EVID-13"
        "the HPKE key has another length than its suite needs"
        "do not seal to this key; ask for new evidence"
    ClaimsMissing "ST-EVID-14"
        "the claims lack a field that evidence for this purpose must have"
        "ask for evidence for the purpose that you need"
    ClaimsUnexpected "ST-EVID-15"
        "the claims have a field that evidence for this purpose must not have"
        "ask for evidence for the purpose that you need"
    ClaimsField "ST-EVID-16"
        "a value in the claims is out of its limits"
        "report this against the agent's release"
    DstackReport "ST-EVID-17"
        "the report is not the JSON that dstack's guest agent answers"
        "pass the answer to a request for a quote as it came"
    ComposeUnlisted "ST-EVID-18"
        "the policy does not list the compose file that the VM runs"
        "do not trust this VM for your use, or list the digest with --compose-hash"
    OsImageUnlisted "ST-EVID-19"
        "the policy does not list the OS image of the VM, or its log does not name it"
        "do not trust this VM, or list the digest with --os-image"
    ReportDataNotGiven "ST-EVID-36"
        "you did not say which report data the quote must carry"
        "pass your 64 bytes with --report-data"
    DstackNotAllowed "ST-EVID-37"
        "the policy admits Sealtune's images only, and this is evidence of one of dstack's"
        "judge it with the policy dstack"
    SaidByGuest "ST-EVID-38"
        "the software in the VM says so"
        "believe it as far as you believe that software"
    LogMalformed "ST-EVID-20"
        "the event log has an event out of its limits, or too many"
        "ask for new evidence"
    LogDigest "ST-EVID-21"
        "an event's digest is not that of its payload"
        "do not trust this evidence; its log was edited"
    LogReplay "ST-EVID-22"
        "the event log does not lead to the registers of the quote"
        "do not trust this evidence; log and quote are not of one VM and moment"
    LogLaunchMissing "ST-EVID-23"
        "register 3 does not begin with `sealtune-launch`"
        "do not trust this VM; something ran before Sealtune's agent"
    LogLaunchRepeated "ST-EVID-24"
        "register 3 holds `sealtune-launch` more than once"
        "do not trust this VM"
    LogLaunchPayload "ST-EVID-25"
        "`sealtune-launch` names another launch configuration"
        "do not trust this VM"
    LogJobStartEarly "ST-EVID-26"
        "register 3 holds a `job-start`: this VM has already run a job and may not be offered again"
        "ask for an offer of a VM that has run nothing"
    LogJobStartMissing "ST-EVID-27"
        "register 3 holds no `job-start` though the evidence is of a started job"
        "do not trust this receipt"
    LogJobStartRepeated "ST-EVID-28"
        "register 3 holds more than one `job-start`"
        "do not trust this receipt; another job ran in the same VM"
    LogJobStartPayload "ST-EVID-29"
        "`job-start` names another job specification"
        "do not trust this receipt; another job ran in this VM"
    LogUnknownEvent "ST-EVID-30"
        "register 3 holds an event that Sealtune's agent does not make"
        "do not trust this VM; other software extended the register"
    BundleTooLong "ST-EVID-31"
        "the evidence file is longer than 4 MiB"
        "ask for new evidence"
    BundleUnreadable "ST-EVID-32"
        "the evidence file is not a JSON document of this form, or has unknown or repeated fields"
        "pass the file as the provider sent it; check the release on both sides"
    BundleVersion "ST-EVID-33"
        "the evidence file has a version that this program does not know"
        "update this program"
    BundleField "ST-EVID-34"
        "a part of the evidence file is out of its limits"
        "ask for new evidence"
    QuoteMalformed "ST-EVID-40"
        "the quote does not parse"
        "ask for new evidence"
    QuoteTrailing "ST-EVID-41"
        "there are bytes after the quote"
        "cut the padding where the evidence is made"
    QuoteNotTdx "ST-EVID-42"
        "the quote is not of a TDX VM, or of a version other than 4 and 5"
        "ask for evidence of a TDX VM"
    QuoteDebug "ST-EVID-43"
        "the VM runs in debug mode: the host can read its memory"
        "do not trust this VM"
    QuoteAttributes "ST-EVID-44"
        "the VM has attributes that weaken its isolation, or lacks SEPT_VE_DISABLE"
        "do not trust this VM; the provider must start it with Sealtune's attributes"
    QuoteXfam "ST-EVID-45"
        "the VM has processor features enabled that are not on the list"
        "the provider must start the VM without processor tracing"
    QuoteOwner "ST-EVID-46"
        "MROWNER or MROWNERCONFIG is not zero"
        "do not trust this VM; another system started it"
    QuoteRegisterZero "ST-EVID-47"
        "a boot register is all zero: the boot was not measured"
        "do not trust this VM; its firmware does not measure"
    QuoteSignature "ST-EVID-48"
        "the quote, its certificates or its collateral do not verify"
        "do not trust this evidence; if you brought the collateral, fetch it again"
    CollateralMissing "ST-EVID-49"
        "there is no collateral to verify the quote with"
        "fetch collateral for this quote and pass it"
    CollateralUnreadable "ST-EVID-50"
        "the collateral does not parse or is too long"
        "fetch collateral again"
    CollateralTime "ST-EVID-51"
        "the collateral is not valid at the time of judgement"
        "fetch new collateral; for old evidence pass --at with a time you can prove"
    TcbStatus "ST-EVID-52"
        "the platform's TCB is revoked, below all that Intel lists, or of a status that the policy does not allow"
        "the provider must update the platform; a policy can allow some statuses, but not a revoked platform or one that is not listed"
    TcbAdvisory "ST-EVID-53"
        "a security advisory applies to the platform that the policy does not allow"
        "the provider must update the platform; or allow this advisory in your policy"
    TcbEvaluation "ST-EVID-54"
        "the collateral is older than the policy's lowest evaluation number"
        "fetch new collateral"
    PlatformNotPinned "ST-EVID-55"
        "the policy pins no platform: any genuine machine anywhere would do"
        "list the provider's machines under `platforms` in your policy"
    PlatformUnlisted "ST-EVID-56"
        "the machine is not on the policy's list of platforms"
        "do not trust this machine, or add it to your policy"
    AnchorUnknown "ST-EVID-57"
        "the quote leads to no root that this program trusts"
        "do not trust this evidence; for a simulated TEE pass its root with --simulated-root"
    SimulatedRootOther "ST-EVID-58"
        "the quote leads neither to Intel's root nor to the given simulated root"
        "pass the root of the platform that made the evidence"
    Simulated "ST-EVID-59"
        "the evidence is SIMULATED: it proves nothing about hardware"
        "use it for development only"
    ReportData "ST-EVID-60"
        "the quote was made for other claims"
        "do not trust this evidence; its claims were edited or belong to another quote"
    PurposeOther "ST-EVID-61"
        "the evidence was made for another purpose"
        "ask for evidence for the purpose that you need"
    NonceOther "ST-EVID-62"
        "the evidence was made for another nonce"
        "ask again with your nonce; this evidence may be a replay"
    JobOther "ST-EVID-63"
        "the evidence is of another job or attempt"
        "ask for the evidence of your job"
    SpecOther "ST-EVID-64"
        "the evidence is of another job specification"
        "do not trust this evidence for your job"
    PreviousOther "ST-EVID-65"
        "the evidence does not follow the evidence that it should follow"
        "do not trust this chain; its parts are of different VMs or jobs"
    PayloadOther "ST-EVID-66"
        "the evidence was made for another receipt"
        "do not trust this receipt"
    InstanceOther "ST-EVID-67"
        "the evidence is of another boot, or names other keys, than the evidence before it"
        "do not trust this chain; its parts are of different VMs"
    LaunchClaim "ST-EVID-68"
        "the claims name another launch configuration than the one presented"
        "do not trust this evidence"
    RoleOther "ST-EVID-69"
        "role or VM mode in the claims differ from the launch configuration, or from what you need"
        "do not trust this VM for this use"
    OfferExpired "ST-EVID-70"
        "the offer is older than 10 minutes"
        "ask for a new offer with a new nonce"
    ReferenceUnreadable "ST-EVID-71"
        "the reference values do not parse or have unknown fields"
        "take the file of the release that you trust"
    ReferenceEmpty "ST-EVID-72"
        "the reference values list no registers, so they would match nothing"
        "take a complete file of the release that you trust"
    ReferenceField "ST-EVID-73"
        "a value in the reference values is out of its limits"
        "take the file of the release that you trust"
    FirmwareUnknown "ST-EVID-74"
        "the firmware (MRTD) is not in the reference values"
        "do not trust this VM, or take the reference values of its release"
    ShapeUnknown "ST-EVID-75"
        "register 0 (firmware's view of the VM) is not in the reference values for this firmware and shape"
        "do not trust this VM, or take reference values that cover its shape"
    KernelUnknown "ST-EVID-76"
        "register 1 (kernel) is not in the reference values"
        "do not trust this VM, or take the reference values of its release"
    BootUnknown "ST-EVID-77"
        "register 2 (command line and initramfs) is not in the reference values"
        "do not trust this VM, or take the reference values of its release"
    ReleaseOther "ST-EVID-78"
        "the launch configuration names another release than the reference values"
        "take the reference values of the release that runs"
    ReleaseNotAllowed "ST-EVID-79"
        "the release is not on the policy's list"
        "add the release to your policy if you trust it"
    ProfileDev "ST-EVID-80"
        "the image is a development image: whoever has its console has its secrets"
        "the provider must run the prod image"
    LayerUnknown "ST-EVID-81"
        "a layer in the launch configuration is not in the reference values"
        "do not trust this VM, or take reference values that list the layer"
    PolicyUnreadable "ST-EVID-82"
        "the policy file does not parse or has unknown fields"
        "correct the policy file; `strict` is the ready-made one"
    PolicyField "ST-EVID-83"
        "a value in the policy file is out of its limits, or is one that no policy may allow"
        "correct the policy file; with `dstack`, list what may run with --compose-hash and --os-image"
    GpuUnverified "ST-EVID-84"
        "the GPU's evidence is bound to this VM but was not verified"
        "verify the GPU's evidence separately; or say `gpu = \"unverified\"` in your policy"
    GpuMissing "ST-EVID-85"
        "the launch configuration lists a GPU whose evidence is missing, or does not list one whose evidence is there"
        "ask for evidence with the GPU's evidence"
    GpuDigest "ST-EVID-86"
        "the GPU evidence in the file is not what the claims name"
        "do not trust this evidence"
    TimeUnanchored "ST-EVID-87"
        "nothing outside proves when this evidence was made"
        "keep an outside time stamp with it, and pass that time with --at"
    TimeOnYourWord "ST-EVID-88"
        "the evidence was judged at a time that you gave"
        "make sure that you can prove this time"
    ClockEarly "ST-EVID-89"
        "the clock shows a time before this program was made"
        "set the clock"
    SimulatedMake "ST-EVID-90"
        "the simulated platform could not make its keys, certificates or dates"
        "make a new platform; check the clock"
    SimulatedFiles "ST-EVID-91"
        "the simulated platform's file cannot be used"
        "remove the file to make a new platform"
    NotChecked "ST-EVID-92"
        "this could not be checked because something before it failed"
        "look at the other findings first"
    HostTime "ST-EVID-93"
        "the guest's clock is the host's word"
        "do not rely on it"
    CollateralOther "ST-EVID-94"
        "the claims name other collateral than the one in the file"
        "judge with collateral that you fetched yourself"
    ServiceTd "ST-EVID-95"
        "a service TD (for migration) is bound to the VM"
        "the provider must start the VM without one"
    PolicySimulated "ST-EVID-96"
        "the policy file tries to admit a simulated root, the dev profile or a debug VM"
        "remove this; only --simulated-root on the command line can admit them"
    CollateralStale "ST-EVID-97"
        "the sender of the offer brought collateral that is older than 24 hours"
        "fetch collateral yourself, or ask for an offer with new collateral"
    NonceNotGiven "ST-EVID-98"
        "you did not say which nonce the evidence must carry"
        "pass your nonce (for a job: the owner's, from the specification) with --nonce"
    JobNotGiven "ST-EVID-99"
        "you did not say which job the evidence must be of"
        "pass the job id with --job"
    BundleLog "ST-EVID-39"
        "the evidence file lacks a dstack VM's log, or has one that does not belong to its kind of TEE"
        "pass the file as the provider sent it"
    VmModeNotAllowed "ST-EVID-35"
        "the policy does not allow VMs of this mode"
        "ask for a VM of your own; or allow the mode in your policy"
}

/// The row for `code`, as a user typed it.
pub fn explain(code: &str) -> Option<CodeEntry> {
    Code::ALL.iter().map(|known| known.entry()).find(|entry| entry.code.eq_ignore_ascii_case(code))
}

/// That a README's table is exactly this one, and no code stands in it twice.
#[cfg(test)]
pub(crate) fn check_table(area: &str, readme: &str, entries: impl Iterator<Item = CodeEntry>) {
    let mut seen = std::collections::BTreeSet::new();
    for entry in entries {
        assert!(seen.insert(entry.code), "{} is used twice", entry.code);
        let row = format!("| {} | {} | {} |", entry.code, entry.cause, entry.fix);
        assert!(readme.contains(&row), "the README lacks: {row}");
    }
    assert_eq!(readme.matches(&format!("| {area}-")).count(), seen.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_in_the_readme() {
        let entries = Code::ALL.iter().map(|code| code.entry());
        check_table("ST-EVID", include_str!("../README.md"), entries);
    }

    #[test]
    fn explains_what_exists() {
        assert_eq!(explain("st-evid-43").map(|entry| entry.cause), Some(Code::QuoteDebug.cause()));
        assert_eq!(explain("ST-EVID-00"), None);
    }
}
