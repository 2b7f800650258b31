//! Recipes from evidence: of a simulated machine that booted as the files here would.

use super::{
    record::newer,
    whole::{Files, SHAPE, recipe},
};
use crate::{
    Anchors, Purpose,
    base64_bytes::Base64Bytes,
    bundle::{EvidenceBundle, Tee},
    claims::report_data,
    codes::Code as EvidenceCode,
    fixed_hex::Hex48,
    launch::Shape,
    logs::{EventType, payload::sha384, tests::ccel},
    measure::{
        Code, DigestSource, ExpectedEvent, MeasuredFile, Recipe, Recording, TdxImage, Witness,
        WitnessError, expected_events, measure_tdx, record_witness, registers,
    },
    simulated::{Oddities, QuoteRequest},
    tests::scene::{NOW, Scene, platform},
};

/// What firmware writes beside a digest: of actions, separators and variables what was hashed.
fn payload(event: &ExpectedEvent, digest: &Hex48) -> Vec<u8> {
    let actions = [
        "Calling EFI Application from Boot Option",
        "Exit Boot Services Invocation",
        "Exit Boot Services Returned with Success",
    ];
    match event.event_type {
        EventType::Separator => vec![0; 4],
        EventType::VariableDriverConfig | EventType::VariableBoot => event.name.clone().into(),
        EventType::Action => {
            let mut known = actions.iter().filter(|text| sha384(text.as_bytes()) == *digest);
            known.next().expect("a known action").as_bytes().to_vec()
        }
        _ => match event.source {
            DigestSource::AcpiLoader | DigestSource::AcpiRsdp | DigestSource::AcpiTables => {
                b"ACPI DATA".to_vec()
            }
            _ => vec![],
        },
    }
}

struct Machine {
    scene: Scene,
    files: Files,
    recipe: Recipe,
}

impl Machine {
    fn new(recipe: Recipe) -> Self {
        let mut recipe = recipe;
        let shape = Shape { vcpus: SHAPE.vcpus, memory_mib: SHAPE.memory_mib };
        recipe.recorded[0].shape.disks = 0;
        for event in &mut recipe.events {
            let kind = EventType::from(event.event_type);
            if matches!(kind, EventType::VariableDriverConfig | EventType::VariableBoot) {
                event.value = Some(sha384(event.name.as_bytes()));
            }
        }
        let scene = Scene::with(|launch| launch.shape = shape);
        Self { scene, files: Files::new(), recipe }
    }

    fn request(&self, bundle: &EvidenceBundle) -> (QuoteRequest, Vec<u8>) {
        let shape = self.recipe.recorded[0].shape;
        let events = expected_events(&self.files.image(), shape, &self.recipe).expect("events");
        let mut log = ccel::header();
        for event in &events {
            let digest = event.digest.expect("known");
            let index = u32::try_from(event.register.rtmr().expect("one")).expect("small") + 1;
            let payload = payload(event, &digest);
            log.extend(ccel::record(index, event.event_type.into(), digest.as_bytes(), &payload));
        }
        let booted = registers(self.recipe.mrtd, &events).expect("known");
        let mut request = self.scene.vm.request(report_data(&bundle.claims.0));
        request.mrtd = booted.mrtd;
        request.rtmr[..3].copy_from_slice(&[booted.rtmr0, booted.rtmr1, booted.rtmr2]);
        (request, log)
    }

    fn evidence(&mut self) -> EvidenceBundle {
        let mut bundle = self.scene.evidence(Purpose::Identity);
        bundle.event_log.events.retain(|event| event.imr == 3);
        let (request, log) = self.request(&bundle);
        bundle.quote = Base64Bytes(self.scene.platform.quote(&request).expect("a quote"));
        bundle.ccel = Some(Base64Bytes(log));
        bundle
    }

    fn witness<'a>(&'a self, evidence: &'a EvidenceBundle) -> Witness<'a> {
        Witness { evidence, collateral: None, anchors: &self.scene.anchors, now: NOW }
    }

    fn refused(&self, evidence: &EvidenceBundle) -> &'static str {
        let witness = self.witness(evidence);
        let made = record_witness(&witness, self.files.image(), Recording::New("made"));
        made.expect_err("refused").code()
    }
}

#[test]
fn evidence_gives_the_recipe_of_its_boot() {
    for original in [recipe(), newer()] {
        let mut machine = Machine::new(original);
        let bundle = machine.evidence();
        let image = machine.files.image();
        let witness = machine.witness(&bundle);
        let made = record_witness(&witness, image, Recording::New("made")).expect("records");
        assert_eq!(made.recorded, machine.recipe.recorded);
        assert!(made.source.contains("simulated:"), "{}", made.source);
        assert_eq!((made.name.as_str(), made.kernel), ("made", machine.recipe.kernel));
        let shape = made.recorded[0].shape;
        let measured = measure_tdx(&image, shape, &made).expect("measures").registers;
        assert_eq!(measured, measure_tdx(&image, shape, &machine.recipe).expect("known").registers);

        // Into a recipe that knows the firmware and no shape, as those that are shipped.
        let bare = Recipe { recorded: vec![], ..machine.recipe.clone() };
        let into = record_witness(&witness, image, Recording::Into(&bare)).expect("records");
        assert_eq!(into, machine.recipe);
    }
}

#[test]
fn what_proves_no_boot_is_refused() {
    let mut machine = Machine::new(newer());
    let good = machine.evidence();
    let without = EvidenceBundle { ccel: None, ..good.clone() };
    assert_eq!(machine.refused(&without), Code::WitnessBoot.as_str());
    let other = EvidenceBundle { tee: Tee::Dstack, ..good.clone() };
    assert_eq!(machine.refused(&other), Code::WitnessBoot.as_str());
    let bare = EvidenceBundle { collateral: None, ..good.clone() };
    assert_eq!(machine.refused(&bare), EvidenceCode::CollateralMissing.as_str());
    let mut elsewhere = good.clone();
    elsewhere.launch = Base64Bytes(b"{}".to_vec());
    assert_eq!(machine.refused(&elsewhere), EvidenceCode::LaunchMismatch.as_str());
    let mut other_log = good.clone();
    let log = &mut other_log.ccel.as_mut().expect("there").0;
    log.extend(ccel::record(1, 6, &[5; 48], b""));
    assert_eq!(machine.refused(&other_log), Code::BootReplay.as_str());
    let mut debug = good.clone();
    let (request, _) = machine.request(&good);
    let odd = Oddities { debug: true, ..Oddities::default() };
    debug.quote = Base64Bytes(machine.scene.platform.odd_quote(&request, &odd).expect("a quote"));
    assert_eq!(machine.refused(&debug), EvidenceCode::QuoteDebug.as_str());

    // Of another root, or of none: a simulated machine is no witness for who did not name it.
    machine.scene.anchors.simulated_root = Some(platform(9).root_der());
    assert_eq!(machine.refused(&good), EvidenceCode::SimulatedRootOther.as_str());
    machine.scene.anchors = Anchors::default();
    assert_eq!(machine.refused(&good), EvidenceCode::AnchorUnknown.as_str());
}

/// A file that is no firmware says nothing of the evidence.
#[test]
fn files_that_are_none_are_told_apart_from_evidence() {
    let mut machine = Machine::new(newer());
    let bundle = machine.evidence();
    let witness = machine.witness(&bundle);
    let image = machine.files.image();
    let record = |image| record_witness(&witness, image, Recording::New("made"));
    let file = |error: &WitnessError| match error {
        WitnessError::Measure(error) => error.file(),
        _ => None,
    };
    let error = record(TdxImage { firmware: b"none", ..image }).expect_err("no firmware");
    assert_eq!(file(&error), Some(MeasuredFile::Firmware), "{error}");
    let error = record(TdxImage { kernel: b"none", ..image }).expect_err("no kernel");
    assert_eq!(file(&error), Some(MeasuredFile::Image), "{error}");
    let error = record(TdxImage { cmdline: "another", ..image }).expect_err("not this boot's");
    assert_eq!(file(&error), None, "{error}");
}

/// A recipe that is known must explain the boot but for the host's tables.
#[test]
fn a_boot_of_something_else_adds_nothing() {
    let mut machine = Machine::new(newer());
    let bundle = machine.evidence();
    let mut other = machine.recipe.clone();
    other.recorded.clear();
    let at = other.events.iter().position(|event| event.value.is_some()).expect("a fixed one");
    other.events[at].value = Some(sha384(b"another"));
    let witness = machine.witness(&bundle);
    let image = machine.files.image();
    let error = record_witness(&witness, image, Recording::Into(&other)).expect_err("differs");
    assert_eq!(error.code(), Code::EventDigest.as_str());
}
