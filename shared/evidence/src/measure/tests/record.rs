//! Recipes made from boots: of a firmware of today, with the events that it makes more than the shipped recipe has.

use super::whole::{Files, SHAPE, logged, recipe};
use crate::{
    logs::{EventType, LoggedEvent, payload::sha384},
    measure::{
        Code, CommandLineForm, DigestSource, KernelForm, PageOrder, Recipe, RecipeEvent,
        RecordedBoot, Strictness, compare, expected_events, measure_tdx, record, record_shape,
        registers,
    },
};

fn fixed(event_type: u32, name: &str) -> RecipeEvent {
    RecipeEvent {
        register: 0,
        event_type,
        name: name.to_owned(),
        digest: DigestSource::Fixed,
        value: Some(sha384(name.as_bytes())),
    }
}

/// Fw_cfg values before the variables, SMBIOS behind the ACPI tables, a second boot option.
pub(super) fn newer() -> Recipe {
    let mut recipe = recipe();
    recipe.kernel = KernelForm::AsIs;
    recipe.command_line = CommandLineForm::InitrdFirst;
    recipe.events.insert(2, fixed(0xa, "event 2"));
    recipe.events.insert(3, fixed(0xa, "event 3"));
    let smbios =
        RecipeEvent { digest: DigestSource::Smbios, value: None, ..fixed(0x8000_0009, "x") };
    recipe.events.insert(13, smbios);
    recipe.events.insert(16, fixed(0x8000_0002, "event 16"));
    recipe.recorded[0].smbios = Some(sha384(b"smbios"));
    recipe
}

/// A log as firmware would write it for these events.
fn log(files: &Files, recipe: &Recipe) -> Vec<LoggedEvent> {
    let events = expected_events(&files.image(), SHAPE, recipe).expect("events");
    let mut log = logged(&events);
    for (event, expected) in log.iter_mut().zip(&events) {
        if matches!(
            expected.source,
            DigestSource::AcpiLoader | DigestSource::AcpiRsdp | DigestSource::AcpiTables
        ) {
            event.payload = b"ACPI DATA".to_vec();
        }
    }
    log
}

fn boot<'a>(files: &'a Files, recipe: &Recipe, log: &'a [LoggedEvent]) -> RecordedBoot<'a> {
    let events = expected_events(&files.image(), SHAPE, recipe).expect("events");
    let registers = registers(recipe.mrtd, &events).expect("known");
    RecordedBoot { image: files.image(), shape: SHAPE, registers, log }
}

#[test]
fn a_boot_gives_the_recipe_that_explains_it() {
    for original in [recipe(), newer()] {
        let files = Files::new();
        let log = log(&files, &original);
        let made = record("made", "a test", &boot(&files, &original, &log)).expect("records");
        assert_eq!((made.kernel, made.page_order), (original.kernel, PageOrder::SinglePass));
        assert_eq!((&made.memory, made.command_line), (&original.memory, original.command_line));
        assert_eq!(made.recorded, original.recorded);
        let sources = |recipe: &Recipe| {
            let events = recipe.events.iter();
            events.map(|event| (event.register, event.digest, event.value)).collect::<Vec<_>>()
        };
        assert_eq!(sources(&made), sources(&original));
        let text = made.to_toml().expect("writes");
        assert_eq!(Recipe::parse(text.as_bytes()).as_ref(), Ok(&made));

        // It measures another image without having seen it.
        let mut other = Files::new();
        other.cmdline.push_str(" quiet");
        other.kernel[0x900] ^= 1;
        let expected = measure_tdx(&other.image(), SHAPE, &original).expect("measures");
        let found = measure_tdx(&other.image(), SHAPE, &made).expect("measures");
        assert_eq!(found.registers, expected.registers);
    }
}

#[test]
fn another_shape_adds_its_tables_and_nothing_else() {
    let (files, original) = (Files::new(), newer());
    let first = log(&files, &original);
    let made = record("made", "a test", &boot(&files, &original, &first)).expect("records");
    let mut bigger = original;
    bigger.recorded[0].acpi_tables = sha384(b"other tables");
    let second = log(&files, &bigger);
    let mut shaped = boot(&files, &bigger, &second);
    shaped.shape.disks = 2;
    let both = record_shape(&made, &shaped).expect("records");
    assert_eq!(both.recorded.len(), 2);
    assert_eq!(record_shape(&both, &shaped).expect("again").recorded.len(), 2);
    let expected = expected_events(&files.image(), shaped.shape, &both).expect("events");
    assert!(compare(&expected, &second, Strictness::Full).is_ok());

    let mut edited = bigger;
    edited.events[3].value = Some(sha384(b"something else"));
    let third = log(&files, &edited);
    let error = record_shape(&made, &boot(&files, &edited, &third)).expect_err("differs");
    assert_eq!(error.entry(), Code::EventDigest);
    let mut shorter = newer();
    shorter.events.pop();
    let fourth = log(&files, &shorter);
    let error = record_shape(&made, &boot(&files, &shorter, &fourth)).expect_err("shorter");
    assert_eq!(error.entry(), Code::EventCount);
}

#[test]
fn boots_that_prove_nothing_are_refused() {
    let (files, original) = (Files::new(), recipe());
    let good = log(&files, &original);
    let code = |files: &Files, log: &[LoggedEvent], change: fn(&mut RecordedBoot<'_>)| {
        let mut boot = boot(files, &original, log);
        change(&mut boot);
        record("made", "a test", &boot).expect_err("refused").entry()
    };
    for at in 0..good.len() {
        let mut edited = good.clone();
        edited[at].digest.0[0] ^= 1;
        assert_eq!(code(&files, &edited, |_| {}), Code::BootReplay, "{at}");
    }
    assert_eq!(code(&files, &good, |boot| boot.registers.mrtd.0[0] ^= 1), Code::RecipeFirmware);
    assert_eq!(code(&files, &good, |boot| boot.shape.memory_mib = 4096), Code::BootLacks);
    assert_eq!(code(&files, &good, |boot| boot.image.cmdline = "x"), Code::BootLacks);
    assert_eq!(code(&files, &good, |boot| boot.image.initrd = b"x"), Code::BootLacks);
    let mut stripped = good.clone();
    for event in &mut stripped {
        event.payload.clear();
    }
    assert_eq!(code(&files, &stripped, |_| {}), Code::BootLacks, "no ACPI data named");
    assert!(good.iter().any(|event| event.event_type == EventType::PlatformConfigFlags));
    assert!(record("", "a test", &boot(&files, &original, &good)).is_err());
}
