//! A whole launch of files that are made here: each input moves its own register, and each event is compared.

use super::{
    kernel::{Signed, kernel, put},
    tdvf::{ROWS, firmware},
};
use crate::{
    event_log::extend,
    fixed_hex::Hex48,
    launch::Shape,
    logs::{EventType, LoggedEvent, Register, payload::sha384},
    measure::{
        Code, DigestSource, ExpectedEvent, KernelForm, MachineShape, PageOrder, Recipe,
        RecipeEvent, RecordedTables, SHIPPED, Strictness, Tdvf, TdxImage, TdxMeasurement, compare,
        expected_events, measure_tdx, mrtd,
    },
    reference::{RegisterRow, Rtmr0Layout},
};

pub(super) const SHAPE: MachineShape =
    MachineShape { vcpus: 2, memory_mib: 2048, disks: 1, gpus: 0 };

pub(super) struct Files {
    pub(super) firmware: Vec<u8>,
    pub(super) kernel: Vec<u8>,
    pub(super) initrd: Vec<u8>,
    pub(super) cmdline: String,
}

impl Files {
    pub(super) fn new() -> Self {
        Self {
            firmware: firmware(&ROWS),
            kernel: kernel(Signed::Yes, 0x20b),
            initrd: vec![b'i'; 5000],
            cmdline: "console=ttyS0 quiet".to_owned(),
        }
    }

    pub(super) fn image(&self) -> TdxImage<'_> {
        TdxImage {
            firmware: &self.firmware,
            kernel: &self.kernel,
            initrd: &self.initrd,
            cmdline: &self.cmdline,
        }
    }

    fn measure(&self, recipe: &Recipe) -> Result<TdxMeasurement, Code> {
        measure_tdx(&self.image(), SHAPE, recipe).map_err(|error| error.entry())
    }
}

/// The shipped list of events, for the firmware that is made here.
pub(super) fn recipe() -> Recipe {
    let mut recipe = Recipe::parse(SHIPPED[1].1.as_bytes()).expect("reads");
    let firmware = firmware(&ROWS);
    let tdvf = Tdvf::parse(&firmware).expect("parses");
    recipe.mrtd = mrtd(&firmware, &tdvf, PageOrder::SinglePass).expect("measures");
    recipe.recorded = vec![RecordedTables {
        shape: SHAPE,
        acpi_loader: sha384(b"loader"),
        acpi_rsdp: sha384(b"rsdp"),
        acpi_tables: sha384(b"tables"),
        smbios: None,
    }];
    recipe
}

pub(super) fn logged(events: &[ExpectedEvent]) -> Vec<LoggedEvent> {
    let log = events.iter().map(|event| LoggedEvent {
        register: event.register,
        event_type: event.event_type,
        digest: event.digest.expect("known"),
        payload: Vec::new(),
    });
    log.collect()
}

#[test]
fn each_input_moves_its_own_register() {
    let base = Files::new().measure(&recipe()).expect("measures").registers;
    let differs = |change: fn(&mut Files), change_recipe: fn(&mut Recipe)| {
        let (mut files, mut recipe) = (Files::new(), recipe());
        change(&mut files);
        change_recipe(&mut recipe);
        let other = files.measure(&recipe).expect("measures").registers;
        [
            base.mrtd != other.mrtd,
            base.rtmr0 != other.rtmr0,
            base.rtmr1 != other.rtmr1,
            base.rtmr2 != other.rtmr2,
        ]
    };
    let keep = |_: &mut Recipe| {};
    let same = |_: &mut Files| {};
    assert_eq!(differs(same, keep), [false; 4]);
    assert_eq!(differs(|f| f.firmware[7] ^= 1, keep), [false, true, false, false]);
    assert_eq!(differs(|f| f.kernel[0x900] ^= 1, keep), [false, false, true, false]);
    assert_eq!(differs(|f| f.initrd[9] ^= 1, keep), [false, false, false, true]);
    assert_eq!(differs(|f| f.initrd.push(0), keep), [false, false, true, true]);
    assert_eq!(differs(|f| f.cmdline.push(' '), keep), [false, false, false, true]);
    let as_is = |recipe: &mut Recipe| recipe.kernel = KernelForm::AsIs;
    assert_eq!(differs(same, as_is), [false, false, true, false]);
    let tables = |recipe: &mut Recipe| recipe.recorded[0].acpi_tables.0[0] ^= 1;
    assert_eq!(differs(same, tables), [false, true, false, false]);
}

#[test]
fn registers_are_the_replay_of_their_events() {
    let measured = Files::new().measure(&recipe()).expect("measures");
    let mut replayed = [Hex48::ZERO; 4];
    for event in &measured.events {
        let register = &mut replayed[event.register.rtmr().expect("a register")];
        *register = extend(register, &event.digest.expect("known"));
    }
    let [rtmr0, rtmr1, rtmr2, rtmr3] = replayed;
    let registers = measured.registers;
    assert_eq!((registers.rtmr0, registers.rtmr1, registers.rtmr2), (rtmr0, rtmr1, rtmr2));
    assert!(rtmr3.is_zero());
    let hob = measured.events.iter().find(|event| event.source == DigestSource::TdHob);
    let hob = hob.and_then(|event| event.digest).expect("computed").to_string();
    assert!(hob.starts_with("0b8772e5b0b41b83"), "the list of memory of a real VM with 2 GiB");
}

#[test]
fn a_recipe_is_of_one_firmware_and_its_shapes() {
    let other_code = |files: &mut Files| put(&mut files.firmware, 0x1500, b"x");
    let mut files = Files::new();
    other_code(&mut files);
    assert_eq!(files.measure(&recipe()).expect_err("MRTD"), Code::RecipeFirmware);
    let mut elsewhere = recipe();
    elsewhere.memory.ranges[0].length -= 0x1000;
    assert_eq!(Files::new().measure(&elsewhere).expect_err("memory"), Code::RecipeFirmware);
    let mut two_pass = recipe();
    two_pass.page_order = PageOrder::TwoPass;
    assert_eq!(Files::new().measure(&two_pass).expect_err("order"), Code::RecipeFirmware);
    for change in [
        |shape: &mut MachineShape| shape.vcpus = 3,
        |shape: &mut MachineShape| shape.memory_mib = 4096,
        |shape: &mut MachineShape| shape.disks = 0,
        |shape: &mut MachineShape| shape.gpus = 1,
    ] {
        let mut shape = SHAPE;
        change(&mut shape);
        let error = measure_tdx(&Files::new().image(), shape, &recipe()).expect_err("shape");
        assert_eq!(error.entry(), Code::NotRecorded);
    }
    let endless = MachineShape { memory_mib: u64::MAX, ..SHAPE };
    let error = measure_tdx(&Files::new().image(), endless, &recipe()).expect_err("memory");
    assert_eq!(error.entry(), Code::Memory);
}

#[test]
fn events_are_compared_one_by_one() {
    let expected = Files::new().measure(&recipe()).expect("measures").events;
    let log = logged(&expected);
    for strictness in [Strictness::Full, Strictness::LayoutFree] {
        let equal = compare(&expected, &log, strictness).expect("equal");
        assert!(equal.free.is_empty());
        for at in 0..log.len() {
            let name = &expected[at].name;
            let mut other = log.clone();
            other[at].digest.0[0] ^= 1;
            let found = compare(&expected, &other, strictness);
            let free = strictness == Strictness::LayoutFree && expected[at].source.is_host_layout();
            match found {
                Ok(comparison) => {
                    assert!(free, "{name}");
                    assert_eq!(comparison.free.len(), 1);
                    assert_eq!(&comparison.free[0].name, name);
                    assert_eq!(comparison.free[0].expected, expected[at].digest);
                }
                Err(error) => {
                    assert_eq!((error.entry(), free), (Code::EventDigest, false), "{name}")
                }
            }
            let mut other = log.clone();
            other[at].event_type = EventType::Other(0x77);
            let error = compare(&expected, &other, strictness).expect_err("type");
            assert_eq!(error.entry(), Code::EventType, "{name}");
            let mut other = log.clone();
            other.remove(at);
            let error = compare(&expected, &other, strictness).expect_err("one fewer");
            assert_eq!(error.entry(), Code::EventCount, "{name}");
            let mut other = log.clone();
            other.insert(at, log[at].clone());
            let error = compare(&expected, &other, strictness).expect_err("one more");
            assert_eq!(error.entry(), Code::EventCount, "{name}");
        }
    }
}

#[test]
fn order_counts_within_a_register_and_not_between_them() {
    let expected = Files::new().measure(&recipe()).expect("measures").events;
    let log = logged(&expected);
    let mut apart = log.clone();
    apart.sort_by_key(|event| std::cmp::Reverse(event.register));
    assert!(compare(&expected, &apart, Strictness::Full).is_ok());
    let mut swapped = log.clone();
    swapped.swap(2, 3);
    let error = compare(&expected, &swapped, Strictness::LayoutFree).expect_err("order");
    assert_eq!(error.entry(), Code::EventDigest);
    // What extends nothing, and what programs extend later, is none of this.
    let mut more = log;
    let note = LoggedEvent {
        register: Register::Rtmr0,
        event_type: EventType::NoAction,
        digest: Hex48::ZERO,
        payload: vec![1],
    };
    more.insert(0, note.clone());
    more.push(LoggedEvent {
        register: Register::Rtmr3,
        event_type: EventType::DstackRuntime,
        ..note
    });
    assert!(compare(&expected, &more, Strictness::Full).is_ok());
}

#[test]
fn without_a_recording_only_the_weaker_comparison_is_possible_and_says_so() {
    let log = logged(&Files::new().measure(&recipe()).expect("measures").events);
    let mut unrecorded = recipe();
    unrecorded.recorded.clear();
    let files = Files::new();
    assert_eq!(files.measure(&unrecorded).expect_err("strict"), Code::NotRecorded);
    let expected = expected_events(&files.image(), SHAPE, &unrecorded).expect("events");
    let error = compare(&expected, &log, Strictness::Full).expect_err("strict");
    assert_eq!(error.entry(), Code::NotRecorded);
    let free = compare(&expected, &log, Strictness::LayoutFree).expect("weaker").free;
    let sources: Vec<_> = free.iter().map(|free| (free.source, free.expected)).collect();
    use DigestSource::{AcpiLoader, AcpiRsdp, AcpiTables};
    assert_eq!(sources, [(AcpiLoader, None), (AcpiRsdp, None), (AcpiTables, None)]);
}

/// Reference values carry what is known: without the host's tables all but register 0, and that by its events.
#[test]
fn a_row_says_what_is_known() {
    let (files, known) = (Files::new(), recipe());
    let bare = Recipe { recorded: vec![], ..known.clone() };
    let firmware = sha384(&files.firmware);
    let shape = Shape { vcpus: SHAPE.vcpus, memory_mib: SHAPE.memory_mib };
    let rows = [&known, &bare].map(|recipe| {
        let events = expected_events(&files.image(), SHAPE, recipe).expect("events");
        let row = RegisterRow::by_events(firmware, shape, recipe.mrtd, &events).expect("a row");
        (row, Rtmr0Layout::of(firmware, shape.vcpus, &events).expect("nothing else is unknown"))
    });
    let measured = files.measure(&known).expect("measures").registers;
    assert_eq!(rows[0].0, RegisterRow::recorded(firmware, shape, &measured));
    assert_eq!(rows[1].0, RegisterRow { rtmr0: None, ..rows[0].0 });
    assert_eq!(rows[0].1, rows[1].1);

    // SMBIOS is not the host's to decide: without it not even the events are known.
    let mut newer = bare;
    newer.events.push(RecipeEvent {
        register: 0,
        event_type: 0x8000_0009,
        name: "smbios".to_owned(),
        digest: DigestSource::Smbios,
        value: None,
    });
    let events = expected_events(&files.image(), SHAPE, &newer).expect("events");
    let error = Rtmr0Layout::of(firmware, shape.vcpus, &events).expect_err("unknown");
    assert_eq!(error.entry(), Code::NotRecorded);
}
