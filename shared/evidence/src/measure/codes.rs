//! Why a launch cannot be measured or is not the expected one. The table in this folder's README has the same texts.

crate::code_table! {
    FirmwareLength "ST-MEAS-01"
        "the firmware file is empty or longer than 16 MiB"
        "pass the firmware image that the VM is started with"
    FirmwareTable "ST-MEAS-02"
        "the firmware has no table of identified entries at its end, or the table is malformed"
        "pass a firmware image built for TDX, with code and variables in one file"
    FirmwareNotTdx "ST-MEAS-03"
        "the firmware has no TDX metadata"
        "pass a firmware image built for TDX"
    FirmwareMetadata "ST-MEAS-04"
        "the firmware's TDX metadata is malformed or of an unknown version"
        "pass a firmware image built for TDX; or update this program"
    FirmwareSection "ST-MEAS-05"
        "a section of the firmware's TDX metadata lies outside its limits, overlaps another or is missing"
        "do not use this firmware"
    KernelLength "ST-MEAS-06"
        "the kernel or the initramfs is empty or longer than its limit"
        "pass the files that the VM is started with"
    KernelHeader "ST-MEAS-07"
        "the kernel has no Linux setup header of protocol 2.12 or later, or is not loaded high"
        "pass a bzImage of a current kernel"
    KernelPe "ST-MEAS-08"
        "the kernel is not an EFI program that can be measured"
        "pass a bzImage that was built with its EFI stub"
    KernelFit "ST-MEAS-09"
        "the initramfs does not fit below the end of the VM's low memory"
        "give the VM more memory or use a smaller initramfs"
    CommandLine "ST-MEAS-10"
        "the command line is longer than 4096 bytes or holds a zero byte"
        "correct the command line of the image"
    Memory "ST-MEAS-11"
        "the VM's memory is not between 16 MiB and 64 TiB, or the firmware's sections lie outside it"
        "correct the shape of the VM"
    AcpiTables "ST-MEAS-12"
        "the ACPI tables are not the list of tables that this program knows"
        "record loader and RSDP as well, not only the tables"
    RecipeUnreadable "ST-MEAS-13"
        "the recipe is too long, does not parse or has unknown fields"
        "take the recipe of the release that you trust"
    RecipeVersion "ST-MEAS-14"
        "the recipe has a version that this program does not know"
        "update this program"
    RecipeField "ST-MEAS-15"
        "a value in the recipe is out of its limits, or its events contradict each other"
        "take the recipe of the release that you trust"
    RecipeFirmware "ST-MEAS-16"
        "the recipe is of another firmware"
        "take the recipe that was recorded with this firmware"
    NotRecorded "ST-MEAS-17"
        "the recipe holds no ACPI or SMBIOS digests for a VM of this shape"
        "record them on a machine of this class, or use a shape that was recorded"
    EventCount "ST-MEAS-18"
        "a register holds more or fewer events than the recipe says"
        "do not trust this VM; its firmware is another one or was told to do something else"
    EventType "ST-MEAS-19"
        "an event is of another type than the recipe says"
        "do not trust this VM; its firmware is another one or was told to do something else"
    EventDigest "ST-MEAS-20"
        "an event has another digest than the one expected"
        "do not trust this VM, or take the recipe and files of its release"
    BootReplay "ST-MEAS-21"
        "the log to record from does not lead to the registers of its quote"
        "take log and quote from one boot, before anything else extends the registers"
    BootLacks "ST-MEAS-22"
        "the log to record from lacks an event that this image and shape make"
        "record a boot of exactly these files in exactly this shape"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::check_table;

    #[test]
    fn codes_are_unique_and_in_the_readme() {
        let entries = Code::ALL.iter().map(|code| code.entry());
        check_table("ST-MEAS", include_str!("README.md"), entries);
    }
}
