//! The log of a real machine's boot: in the firmware's own form, beside the agent's events.

use super::scene::Scene;
use crate::{
    Event, EventLog, Hex48, Purpose, Verdict,
    base64_bytes::Base64Bytes,
    bundle::{EvidenceBundle, MAX_CCEL_BYTES, Tee},
    claims::report_data,
    codes::Code,
    event_log::RUNTIME_REGISTER,
    logs::{self, CcelLog, tests::ccel},
    measure,
    policy::Rtmr0Rule,
    reference::{HostCode, Rtmr0Event, Rtmr0Layout},
    release,
    verdict::Cause as _,
};

const MEMORY: [u8; 48] = [1; 48];
const VOLUME: [u8; 48] = [2; 48];
const KERNEL: [u8; 48] = [3; 48];

/// A boot in three registers.
fn boot(memory: &[u8; 48], volume: &[u8; 48], kernel: &[u8; 48]) -> Vec<u8> {
    let mut log = ccel::header();
    log.extend(ccel::record(1, 0x8000_000b, memory, b"memory"));
    log.extend(ccel::record(1, 0x8000_000a, volume, b"volume"));
    log.extend(ccel::hashed(1, 4, &[0; 4]));
    log.extend(ccel::record(2, 0x8000_0003, kernel, b"kernel"));
    log.extend(ccel::hashed(2, 4, &[0; 4]));
    log.extend(ccel::record(3, 6, &[4; 48], b"command line"));
    log
}

fn firmware_log() -> Vec<u8> {
    boot(&MEMORY, &VOLUME, &KERNEL)
}

/// A VM that booted by `log` and whose release has these registers.
struct Booted {
    scene: Scene,
    log: Vec<u8>,
}

impl Booted {
    fn new(log: Vec<u8>) -> Self {
        let mut scene = Scene::new();
        let registers = CcelLog::parse(&log).expect("a log").replay();
        for row in &mut scene.references[0].registers {
            let [rtmr0, rtmr1, rtmr2, _] = registers;
            (row.rtmr0, row.rtmr1, row.rtmr2) = (Some(rtmr0), rtmr1, rtmr2);
        }
        Self { scene, log }
    }

    fn bundle(&mut self, purpose: Purpose) -> EvidenceBundle {
        let mut bundle = self.scene.evidence(purpose);
        bundle.event_log.events.retain(|event| usize::from(event.imr) == RUNTIME_REGISTER);
        let boot = CcelLog::parse(&self.log).expect("a log").replay();
        let mut request = self.scene.vm.request(report_data(&bundle.claims.0));
        request.rtmr[..3].copy_from_slice(&boot[..3]);
        bundle.quote = Base64Bytes(self.scene.platform.quote(&request).expect("a quote"));
        bundle.ccel = Some(Base64Bytes(self.log.clone()));
        bundle
    }

    fn judge(&self, bundle: &EvidenceBundle, purpose: Purpose) -> Verdict {
        self.scene.appraise(bundle, purpose).verdict
    }
}

#[test]
fn the_firmwares_log_and_the_agents_explain_all_registers() {
    for purpose in [Purpose::Identity, Purpose::Offer, Purpose::Start, Purpose::Receipt] {
        let mut booted = Booted::new(firmware_log());
        let bundle = booted.bundle(purpose);
        let read = EvidenceBundle::parse(&bundle.to_bytes().expect("writes")).expect("reads");
        let verdict = booted.judge(&read, purpose);
        assert!(verdict.is_accepted(), "{}", verdict.render());
        let log = verdict.finding("event-log").expect("judged");
        assert_eq!(log.anchor, "RTMR0-3", "{}", verdict.render());
        let events = if purpose.follows_job_start() { "8 events" } else { "7 events" };
        assert_eq!(log.value, events);
    }
}

/// The registers are known whole, so a log of them would say nothing that is not known.
#[test]
fn without_a_boot_log_the_registers_must_be_on_the_list() {
    let mut booted = Booted::new(firmware_log());
    let mut bundle = booted.bundle(Purpose::Identity);
    bundle.ccel = None;
    let verdict = booted.judge(&bundle, Purpose::Identity);
    assert!(verdict.is_accepted(), "{}", verdict.render());
    assert_eq!(verdict.finding("event-log").expect("judged").anchor, "RTMR3");

    for row in &mut booted.scene.references[0].registers {
        row.rtmr0 = Some(Hex48::from([7; 48]));
    }
    let verdict = booted.judge(&bundle, Purpose::Identity);
    assert!(!verdict.is_accepted() && !verdict.has(Code::LogReplay), "{}", verdict.render());
}

#[test]
fn every_event_of_the_boot_counts() {
    let mut booted = Booted::new(firmware_log());
    let bundle = booted.bundle(Purpose::Identity);
    let with = |log: Vec<u8>| EvidenceBundle { ccel: Some(Base64Bytes(log)), ..bundle.clone() };
    let mut longer = firmware_log();
    longer.extend(ccel::record(1, 6, &[5; 48], b""));
    let mut other_digest = firmware_log();
    let at = other_digest.len() - 40;
    other_digest[at] ^= 1;
    for log in [longer, other_digest] {
        let verdict = booted.judge(&with(log), Purpose::Identity);
        assert!(verdict.has(Code::LogReplay) && !verdict.is_accepted(), "{}", verdict.render());
    }
    let mut cut = firmware_log();
    cut.truncate(cut.len() - 1);
    let verdict = booted.judge(&with(cut), Purpose::Identity);
    assert!(verdict.has(logs::Code::Truncated) && !verdict.is_accepted(), "{}", verdict.render());
    // A firmware whose phase did not end.
    let verdict = booted.judge(&with(ccel::header()), Purpose::Identity);
    assert!(verdict.has(logs::Code::SeparatorMissing) && !verdict.is_accepted());
    // The agent's own events count as before.
    let mut fewer = bundle.clone();
    fewer.event_log = EventLog::default();
    assert!(booted.judge(&fewer, Purpose::Identity).has(Code::LogReplay));
}

#[test]
fn nothing_is_logged_in_two_places() {
    let mut with_runtime = firmware_log();
    with_runtime.extend(ccel::record(4, 6, &[9; 48], b""));
    let mut booted = Booted::new(firmware_log());
    let bundle = booted.bundle(Purpose::Identity);
    let with = EvidenceBundle { ccel: Some(Base64Bytes(with_runtime)), ..bundle.clone() };
    assert!(booted.judge(&with, Purpose::Identity).has(logs::Code::TwoPlaces));
    let mut both = bundle;
    both.event_log.events.insert(0, Event::new(0, "firmware", vec![1]));
    assert!(booted.judge(&both, Purpose::Identity).has(logs::Code::TwoPlaces));
}

/// A host whose memory list differs from the one that the release was measured with.
struct Elsewhere(Booted);

impl Elsewhere {
    fn new(log: Vec<u8>) -> Self {
        let mut booted = Booted::new(firmware_log());
        booted.scene.policy.rules.rtmr0 = Rtmr0Rule::LayoutFree;
        let values = &mut booted.scene.references[0];
        let separator = logs::payload::sha384(&[0; 4]);
        let event = |event_type, digest| Rtmr0Event { event_type, digest };
        values.rtmr0 = vec![Rtmr0Layout {
            firmware: values.registers[0].firmware,
            vcpus: values.registers[0].vcpus,
            events: vec![
                event(0x8000_000b, None),
                event(0x8000_000a, Some(Hex48::from(VOLUME))),
                event(4, Some(separator)),
            ],
        }];
        booted.log = log;
        Self(booted)
    }

    fn verdict(&mut self) -> Verdict {
        let bundle = self.0.bundle(Purpose::Identity);
        self.0.judge(&bundle, Purpose::Identity)
    }
}

#[test]
fn a_policy_may_leave_the_hosts_tables_free() {
    let own_memory = || boot(&[9; 48], &VOLUME, &KERNEL);
    let mut elsewhere = Elsewhere::new(own_memory());
    let verdict = elsewhere.verdict();
    assert!(verdict.is_accepted(), "{}", verdict.render());
    assert!(verdict.has(measure::Code::LayoutFree), "the reader is told");
    assert!(verdict.policy.tolerates.iter().any(|what| what.contains("ACPI")));

    elsewhere.0.scene.policy.rules.rtmr0 = Rtmr0Rule::Full;
    let verdict = elsewhere.verdict();
    assert!(verdict.has(Code::ShapeUnknown) && !verdict.is_accepted(), "{}", verdict.render());

    // Equal in full needs no leave.
    let verdict = Elsewhere::new(firmware_log()).verdict();
    assert!(verdict.is_accepted() && !verdict.has(measure::Code::LayoutFree));
}

/// The machine's tables were not recorded: nothing says what RTMR0 is, and the list of events says what it is made of.
#[test]
fn a_row_without_rtmr0_needs_a_policy_that_goes_by_events() {
    let mut elsewhere = Elsewhere::new(boot(&[9; 48], &VOLUME, &KERNEL));
    elsewhere.0.scene.references[0].registers[0].rtmr0 = None;
    let verdict = elsewhere.verdict();
    assert!(verdict.is_accepted(), "{}", verdict.render());
    assert!(verdict.has(measure::Code::LayoutFree));

    elsewhere.0.scene.policy.rules.rtmr0 = Rtmr0Rule::Full;
    let verdict = elsewhere.verdict();
    assert!(verdict.has(measure::Code::NotRecorded) && !verdict.is_accepted());
    // Without a log of the boot there is nothing to go by.
    elsewhere.0.scene.policy.rules.rtmr0 = Rtmr0Rule::LayoutFree;
    let mut bundle = elsewhere.0.bundle(Purpose::Identity);
    bundle.ccel = None;
    let verdict = elsewhere.0.judge(&bundle, Purpose::Identity);
    assert!(verdict.has(measure::Code::NotRecorded) && !verdict.is_accepted());

    // What is known of the row still says where a boot departs.
    for rule in [Rtmr0Rule::Full, Rtmr0Rule::LayoutFree] {
        let mut other = Elsewhere::new(boot(&[9; 48], &VOLUME, &[8; 48]));
        other.0.scene.references[0].registers[0].rtmr0 = None;
        other.0.scene.policy.rules.rtmr0 = rule;
        let verdict = other.verdict();
        assert!(verdict.has(Code::KernelUnknown) && !verdict.is_accepted(), "{}", verdict.render());
    }

    let values = &mut elsewhere.0.scene.references[0];
    values.registers[0].layout = crate::reference::Layout::Recorded;
    assert!(values.to_bytes().is_ok());
    values.rtmr0.clear();
    assert_eq!(values.to_bytes().expect_err("refused").entry(), Code::ReferenceField);
}

/// A signer's word about the kernel counts for tables that the policy leaves free, and for nothing else.
#[test]
fn a_release_may_state_that_its_kernel_confines_what_is_in_the_tables() {
    use crate::Status::{Affirming, Contraindicated, Warning};
    let own_memory = || boot(&[9; 48], &VOLUME, &KERNEL);
    for (rule, host_code, status) in [
        (Rtmr0Rule::LayoutFree, HostCode::Unstated, Some(Warning)),
        (Rtmr0Rule::LayoutFree, HostCode::Confined, Some(Affirming)),
        (Rtmr0Rule::LayoutFreeConfined, HostCode::Unstated, Some(Contraindicated)),
        (Rtmr0Rule::LayoutFreeConfined, HostCode::Confined, Some(Affirming)),
        (Rtmr0Rule::Full, HostCode::Confined, None),
    ] {
        let mut elsewhere = Elsewhere::new(own_memory());
        elsewhere.0.scene.policy.rules.rtmr0 = rule;
        elsewhere.0.scene.references[0].host_code = host_code;
        let verdict = elsewhere.verdict();
        let found = verdict.finding("acpi").map(|finding| finding.status);
        assert_eq!(found, status, "{rule:?} {host_code:?}: {}", verdict.render());
        let refused = rule == Rtmr0Rule::Full || status == Some(Contraindicated);
        assert_eq!(verdict.is_accepted(), !refused, "{}", verdict.render());
        assert_eq!(verdict.has(release::Code::HostCode), status == Some(Contraindicated));
    }
    // Tables of the release's own need no statement.
    let mut same = Elsewhere::new(firmware_log());
    same.0.scene.policy.rules.rtmr0 = Rtmr0Rule::LayoutFreeConfined;
    let verdict = same.verdict();
    assert!(verdict.is_accepted() && verdict.finding("acpi").is_none(), "{}", verdict.render());
    // No file of reference values can make it.
    let mut values = Elsewhere::new(firmware_log()).0.scene.references.remove(0);
    values.registers[0].layout = crate::reference::Layout::Recorded;
    values.host_code = HostCode::Confined;
    let bytes = values.to_bytes().expect("writes");
    let read = crate::ReferenceValues::parse(&bytes).expect("reads");
    assert_eq!(read.host_code, HostCode::Unstated);
    let text =
        String::from_utf8(bytes).expect("text").replacen('{', "{\"host_code\":\"confined\",", 1);
    assert!(crate::ReferenceValues::parse(text.as_bytes()).is_err());
}

/// Two files of one release, of firmwares that differ in nothing but what RTMR0 measures.
#[test]
fn one_file_that_fits_is_enough() {
    let mut elsewhere = Elsewhere::new(boot(&[9; 48], &VOLUME, &KERNEL));
    let fits = elsewhere.0.scene.references[0].clone();
    let mut other = fits.clone();
    other.rtmr0[0].events[1].digest = Some(Hex48::from([7; 48]));
    for references in [vec![other.clone(), fits.clone()], vec![fits, other]] {
        elsewhere.0.scene.references = references;
        let verdict = elsewhere.verdict();
        assert!(verdict.is_accepted(), "{}", verdict.render());
    }
}

#[test]
fn nothing_else_is_free() {
    let own = |volume, kernel| boot(&[9; 48], volume, kernel);
    let mut longer = own(&VOLUME, &KERNEL);
    longer.extend(ccel::record(1, 0x8000_000a, &[6; 48], b""));
    let mut retyped = own(&VOLUME, &KERNEL);
    let at = ccel::header().len() + 4;
    retyped[at] = 0x0a;
    let cases = [
        (own(&[8; 48], &KERNEL), measure::Code::EventDigest.code()),
        (longer, measure::Code::EventCount.code()),
        (retyped, measure::Code::EventType.code()),
        (own(&VOLUME, &[8; 48]), Code::ShapeUnknown.code()),
    ];
    for (log, code) in cases {
        let verdict = Elsewhere::new(log).verdict();
        let found = verdict.finding("boot").expect("judged");
        assert_eq!(found.code, Some(code), "{}", verdict.render());
        assert!(!verdict.is_accepted());
    }
    // A log that nobody replayed says nothing about events.
    let mut elsewhere = Elsewhere::new(own(&VOLUME, &KERNEL));
    let mut bundle = elsewhere.0.bundle(Purpose::Identity);
    bundle.ccel = None;
    let verdict = elsewhere.0.judge(&bundle, Purpose::Identity);
    assert!(verdict.has(Code::ShapeUnknown) && !verdict.is_accepted());
    // Of another firmware or another number of processors.
    for change in [0, 1] {
        let mut elsewhere = Elsewhere::new(own(&VOLUME, &KERNEL));
        let layout = &mut elsewhere.0.scene.references[0].rtmr0[0];
        if change == 0 {
            layout.vcpus += 1
        } else {
            layout.firmware.0[0] ^= 1
        }
        assert!(!elsewhere.verdict().is_accepted());
    }
}

#[test]
fn a_layout_that_fixes_nothing_is_refused() {
    let mut values = Elsewhere::new(firmware_log()).0.scene.references.remove(0);
    // Rows of the computed layout must follow from their digests; these were put there by hand.
    values.registers[0].layout = crate::reference::Layout::Recorded;
    assert!(values.to_bytes().is_ok());
    values.rtmr0[0].events.iter_mut().for_each(|event| event.digest = None);
    assert_eq!(values.to_bytes().expect_err("refused").entry(), Code::ReferenceField);
}

#[test]
fn the_log_is_bounded_and_of_tdx_alone() {
    let mut booted = Booted::new(firmware_log());
    let bundle = booted.bundle(Purpose::Identity);
    let refused = |bundle: EvidenceBundle| bundle.validate().expect_err("refused").entry();
    let with = |log| EvidenceBundle { ccel: Some(Base64Bytes(log)), ..bundle.clone() };
    assert_eq!(refused(with(vec![])), Code::BundleField);
    assert_eq!(refused(with(vec![0; MAX_CCEL_BYTES + 1])), Code::BundleField);
    assert_eq!(refused(EvidenceBundle { tee: Tee::Snp, ..bundle.clone() }), Code::BundleLog);
}

#[test]
fn padding_is_taken_off_and_nothing_else() {
    let bare = firmware_log();
    for padding in [vec![], vec![0xff; 64], vec![0; 64], [vec![0xff; 4], vec![0; 60]].concat()] {
        let area = [bare.clone(), padding].concat();
        assert_eq!(CcelLog::without_padding(&area), Ok(bare.as_slice()));
    }
    let registers = CcelLog::parse(&bare).expect("a log").replay();
    assert_ne!(registers[0], Hex48::ZERO);
}
