//! What a recipe may say.

use crate::measure::{Code, Recipe, SHIPPED, recipe::fuzz_recipe};

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
        assert_eq!((count(0), count(1), count(2)), (13, 5, 2));
        fuzz_recipe(text.as_bytes());
        let written = toml::to_string(&recipe).expect("writes");
        assert_eq!(Recipe::parse(written.as_bytes()), Ok(recipe));
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
