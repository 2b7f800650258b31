//! What a recipe may say.

use crate::{
    logs::payload::sha384,
    measure::{
        Code, CommandLineForm, Recipe, SHIPPED,
        recipe::fuzz_recipe,
        rtmr0::{GLOBAL_VARIABLE, IMAGE_SECURITY_DATABASE, separator_digest, variable_digest},
    },
};

fn refused(text: &str) -> Code {
    Recipe::parse(text.as_bytes()).expect_err("refused").entry()
}

fn shipped() -> &'static str {
    SHIPPED[1].1
}

const RECORDED: &str = "\n[[recorded]]\nshape = { vcpus = 2, memory_mib = 2048, disks = 1 }\n";

fn recorded(smbios: &str) -> String {
    let digest = "11".repeat(48);
    format!(
        "{RECORDED}acpi_loader = \"{digest}\"\nacpi_rsdp = \"{digest}\"\nacpi_tables = \"{digest}\"\n{smbios}"
    )
}

#[test]
fn shipped_recipes_are_read_and_survive_being_written() {
    for (name, text) in SHIPPED {
        let recipe = Recipe::parse(text.as_bytes()).expect("reads");
        assert_eq!(recipe.name, name);
        let count =
            |register| recipe.events.iter().filter(|event| event.register == register).count();
        let newer = name.starts_with("debian");
        assert_eq!((count(0), count(1), count(2)), (if newer { 16 } else { 13 }, 5, 2));
        fuzz_recipe(text.as_bytes());
        let written = toml::to_string(&recipe).expect("writes");
        assert_eq!(Recipe::parse(written.as_bytes()), Ok(recipe));
    }
}

/// What the fixed events of Debian's firmware are digests of, from its own code and from a boot of it.
#[test]
fn the_fixed_digests_follow_from_what_the_firmware_measures() {
    let option = [
        [9, 1, 0, 0, 44, 0].as_slice(),
        &"BootManagerMenuApp\0".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>(),
        // The firmware volume 7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1.
        b"\x04\x07\x14\0\xc9\xbd\xb8\x7c\xeb\xf8\x34\x4f\xaa\xea\x3e\xe4\xaf\x65\x16\xa1",
        // Its file eec25bdc-67f2-4d95-b1d5-f81b2039d11d.
        b"\x04\x06\x14\0\xdc\x5b\xc2\xee\xf2\x67\x95\x4d\xb1\xd5\xf8\x1b\x20\x39\xd1\x1d",
        b"\x7f\xff\x04\0",
    ]
    .concat();
    let expected = [
        ("BootMenu of fw_cfg", sha384(&[0; 2])),
        ("bootorder of fw_cfg", sha384(b"/rom@genroms/linuxboot_dma.bin\0")),
        ("SecureBoot", variable_digest(&GLOBAL_VARIABLE, "SecureBoot", &[0])),
        ("PK", variable_digest(&GLOBAL_VARIABLE, "PK", &[])),
        ("KEK", variable_digest(&GLOBAL_VARIABLE, "KEK", &[])),
        ("db", variable_digest(&IMAGE_SECURITY_DATABASE, "db", &[])),
        ("dbx", variable_digest(&IMAGE_SECURITY_DATABASE, "dbx", &[])),
        ("separator", separator_digest()),
        ("BootOrder", sha384(&[0; 2])),
        ("Boot0000", sha384(&option)),
    ];
    for (_, text) in SHIPPED.iter().filter(|(name, _)| name.starts_with("debian")) {
        let recipe = Recipe::parse(text.as_bytes()).expect("reads");
        let fixed = recipe.events.iter().filter(|event| event.register == 0);
        let fixed: Vec<_> =
            fixed.filter_map(|event| Some((event.name.as_str(), event.value?))).collect();
        assert_eq!(fixed, expected);
        assert_eq!(recipe.command_line, CommandLineForm::InitrdFirst);
    }
}

#[test]
fn recordings_belong_to_one_shape_each() {
    let once = [shipped(), &recorded("")].concat();
    let recipe = Recipe::parse(once.as_bytes()).expect("reads");
    assert_eq!(recipe.recorded.len(), 1);
    assert!(recipe.tables_for(recipe.recorded[0].shape).is_some());
    let mut other = recipe.recorded[0].shape;
    other.gpus = 1;
    assert_eq!(recipe.tables_for(other), None);
    assert_eq!(refused(&[&once, recorded("").as_str()].concat()), Code::RecipeField);
    let smbios = format!("smbios = \"{}\"\n", "22".repeat(48));
    assert_eq!(refused(&[shipped(), &recorded(&smbios)].concat()), Code::RecipeField);
    let event =
        "\n[[event]]\nregister = 0\ntype = 0x80000009\nname = \"smbios\"\ndigest = \"smbios\"\n";
    let with_event = [shipped(), event, &recorded(&smbios)].concat();
    assert!(Recipe::parse(with_event.as_bytes()).is_ok());
    assert_eq!(refused(&[shipped(), event, &recorded("")].concat()), Code::RecipeField);
}

#[test]
fn every_departure_is_refused() {
    let edit = |from: &str, to: &str| {
        assert!(shipped().contains(from), "{from}");
        refused(&shipped().replacen(from, to, 1))
    };
    let mrtd = "b24d3b24e9e3c16012376b52362ca09856c4adecb709d5fac33addf1c47e193da075b125b6c364115771390a5461e217";
    assert_eq!(edit("version = 1", "version = 2"), Code::RecipeVersion);
    assert_eq!(edit("version = 1", "version = 1\nmore = 1"), Code::RecipeUnreadable);
    assert_eq!(edit("version = 1\n", ""), Code::RecipeUnreadable);
    assert_eq!(edit(mrtd, &"00".repeat(48)), Code::RecipeField);
    assert_eq!(edit(mrtd, "b24d"), Code::RecipeUnreadable);
    assert_eq!(edit("single-pass", "three-pass"), Code::RecipeUnreadable);
    assert_eq!(edit("kernel = \"patched\"", "kernel = \"signed\""), Code::RecipeUnreadable);
    assert_eq!(edit("register = 0", "register = 3"), Code::RecipeField);
    assert_eq!(edit("register = 0", "register = 1"), Code::RecipeField);
    assert_eq!(edit("digest = \"td-hob\"", "digest = \"acpi-rsdp\""), Code::RecipeField);
    assert_eq!(edit("digest = \"td-hob\"", "digest = \"fixed\""), Code::RecipeField);
    assert_eq!(edit("digest = \"fixed\"", "digest = \"smbios\""), Code::RecipeField);
    assert_eq!(edit("name = \"separator\"", "name = \"\""), Code::RecipeField);
    assert_eq!(edit("hob_address = 0x809000", "hob_address = 0"), Code::RecipeField);
    assert_eq!(edit("length = 0x6000", "length = 0x60000"), Code::RecipeField);
    assert_eq!(edit("length = 0x6000", "length = -1"), Code::RecipeUnreadable);
    assert_eq!(refused(&" ".repeat((256 << 10) + 1)), Code::RecipeUnreadable);
    assert_eq!(refused(""), Code::RecipeUnreadable);
    assert_eq!(Recipe::parse(&[0xff]).expect_err("no text").entry(), Code::RecipeUnreadable);
    let name = format!("name = \"{}\"", "x".repeat(513));
    assert_eq!(edit("name = \"edk2-202502-qemu9\"", &name), Code::RecipeField);
    let more =
        "\n[[event]]\nregister = 0\ntype = 4\nname = \"x\"\ndigest = \"smbios\"\n".repeat(45);
    assert_eq!(refused(&[shipped(), &more].concat()), Code::RecipeField);
}
