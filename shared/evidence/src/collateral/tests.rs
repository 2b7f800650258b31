use super::{
    memory::{Number, RootMemory},
    urls::{CrlForm, INTEL_PCS},
    *,
};
use crate::{fixed_hex::Hex48, snp::Product};

const SUBJECT: QuoteSubject =
    QuoteSubject { fmspc: FixedHex([0x90, 0xc0, 0x6f, 0, 0, 0]), ca: PckCa::Platform };

fn facts() -> CollateralFacts {
    CollateralFacts {
        root: FixedHex([1; 48]),
        subject: SUBJECT,
        tcb_evaluation: 18,
        qe_evaluation: 17,
        root_crl: 3,
        pck_crl: 1200,
    }
}

#[test]
fn no_number_falls() {
    let memory = CollateralMemory::default().check_and_update(&facts()).expect("first");
    assert_eq!(memory.check_and_update(&facts()).as_ref(), Ok(&memory), "the same again");
    type Change = fn(&mut CollateralFacts);
    let cases: [(Number, Code, Change); 4] = [
        (Number::TcbEvaluation, Code::EvaluationFell, |f| f.tcb_evaluation -= 1),
        (Number::QeEvaluation, Code::QeEvaluationFell, |f| f.qe_evaluation -= 1),
        (Number::RootCrl, Code::RootCrlFell, |f| f.root_crl -= 1),
        (Number::PckCrl, Code::PckCrlFell, |f| f.pck_crl = 0),
    ];
    for (number, code, change) in cases {
        let mut lower = facts();
        change(&mut lower);
        let error = memory.check_and_update(&lower).expect_err("fell");
        assert_eq!((error.number, error.entry()), (number, code));
        assert!(error.seen > error.found && error.fix() == code.fix());
    }
    // Each number rises by itself.
    let mut higher = facts();
    higher.pck_crl = 1300;
    let risen = memory.check_and_update(&higher).expect("newer");
    assert!(risen.check_and_update(&facts()).is_err());
    assert!(memory.check_and_update(&facts()).is_ok(), "the old memory is untouched");
}

#[test]
fn numbers_are_by_root_authority_and_platform() {
    let memory = CollateralMemory::default().check_and_update(&facts()).expect("first");
    let mut other = facts();
    other.root = FixedHex([2; 48]);
    (other.tcb_evaluation, other.qe_evaluation, other.root_crl, other.pck_crl) = (1, 1, 1, 1);
    assert!(memory.check_and_update(&other).is_ok(), "another root");
    let mut other = facts();
    other.subject.ca = PckCa::Processor;
    other.pck_crl = 1;
    assert!(memory.check_and_update(&other).is_ok(), "another authority's list");
    let mut other = facts();
    other.subject.fmspc = FixedHex([3; 6]);
    other.tcb_evaluation = 17;
    assert!(memory.check_and_update(&other).is_ok(), "another kind of machine");
    other.qe_evaluation = 16;
    assert!(memory.check_and_update(&other).is_err(), "but one quoting enclave for all");
}

#[test]
fn parts_of_one_job_are_held_against_what_was_known_before() {
    let known = CollateralMemory::default().check_and_update(&facts()).expect("first");
    let mut newer = facts();
    newer.pck_crl += 1;
    let (findings, newest) = known
        .hold(vec![("receipt.", Ok(Facts::Intel(newer))), ("offer.", Ok(Facts::Intel(facts())))]);
    let policy = crate::Policy::strict().identity();
    let verdict = findings.into_verdict("t", false, policy.clone(), 0);
    assert!(verdict.is_accepted(), "{}", verdict.render());
    assert_eq!(known.check_and_update(&newer), Ok(newest.clone()));
    // From now on it is.
    let broken = Err(CollateralError::Facts("test"));
    let (findings, kept) = newest.hold(vec![
        ("receipt.", Ok(Facts::Intel(newer))),
        ("offer.", Ok(Facts::Intel(facts()))),
        ("start.", broken),
    ]);
    let verdict = findings.into_verdict("t", false, policy, 0);
    assert!(verdict.has(Code::PckCrlFell) && verdict.has(Code::Facts) && !verdict.is_accepted());
    assert_eq!(kept, newest);
}

/// The text of version 1, for ever.
#[test]
fn memories_are_closed_bounded_and_read_back() {
    let memory = CollateralMemory::default().check_and_update(&facts()).expect("first");
    let bytes = memory.to_bytes().expect("writes");
    let root = "01".repeat(48);
    let text = format!(
        r#"{{"roots":{{"{root}":{{"pck_crl":{{"platform":1200}},"qe_evaluation":17,"root_crl":3,"tcb_evaluation":{{"90c06f000000":18}}}}}},"version":1}}"#
    );
    assert_eq!(String::from_utf8(bytes.clone()).expect("text"), text);
    assert_eq!(CollateralMemory::parse(&bytes), Ok(memory.clone()));
    for (from, to, code) in [
        ("\"version\":1", "\"version\":2", Code::MemoryField),
        ("\"version\":1", "\"version\":1,\"x\":1", Code::MemoryUnreadable),
        ("\"root_crl\":3", "\"root_crl\":3,\"x\":1", Code::MemoryUnreadable),
        ("\"root_crl\":3", "\"root_crl\":-3", Code::MemoryUnreadable),
        ("\"platform\"", "\"any\"", Code::MemoryUnreadable),
        ("90c06f000000", "90c06f0000", Code::MemoryField),
        ("90c06f000000", "90C06F000000", Code::MemoryField),
        (&root, "01", Code::MemoryField),
    ] {
        let changed = text.replacen(from, to, 1);
        let error = CollateralMemory::parse(changed.as_bytes()).expect_err(&changed);
        assert_eq!(error.entry(), code, "{changed}");
    }
    let mut crowded = memory;
    for number in 0..17_u8 {
        let root: Hex48 = FixedHex([number; 48]);
        crowded.roots.insert(root.to_string(), RootMemory::default());
    }
    assert_eq!(crowded.to_bytes().expect_err("too many").entry(), Code::MemoryField);
    let long = vec![b' '; memory::MAX_MEMORY_BYTES + 1];
    assert!(CollateralMemory::parse(&long).is_err());
}

#[test]
fn the_number_of_amds_list_does_not_fall() {
    let list = |product, number: u8| {
        let mut crl = [0; 20];
        crl[19] = number;
        AmdFacts { product, crl: FixedHex(crl) }
    };
    // A file from before AMD's lists were remembered, and the text of one with them, for ever.
    let old = br#"{"roots":{},"version":1}"#;
    let memory = CollateralMemory::parse(old).expect("an old memory");
    assert_eq!(memory.to_bytes().expect("writes"), old);
    let memory = memory.check_and_update_amd(&list(Product::Genoa, 9)).expect("first");
    let zeros = "0".repeat(38);
    let text = format!(r#"{{"amd":{{"genoa":"{zeros}09"}},"roots":{{}},"version":1}}"#);
    assert_eq!(String::from_utf8(memory.to_bytes().expect("writes")).expect("text"), text);
    assert_eq!(CollateralMemory::parse(text.as_bytes()), Ok(memory.clone()));
    for bad in [text.replace("genoa", "rome"), text.replace("09\"", "0\"")] {
        let error = CollateralMemory::parse(bad.as_bytes()).expect_err(&bad);
        assert_eq!(error.entry(), Code::MemoryUnreadable);
    }
    assert_eq!(memory.check_and_update_amd(&list(Product::Genoa, 9)).as_ref(), Ok(&memory));
    assert!(memory.check_and_update_amd(&list(Product::Milan, 1)).is_ok(), "another root");
    let fell = memory.check_and_update_amd(&list(Product::Genoa, 8)).expect_err("fell");
    assert!(fell.found < fell.seen && fell.fix() == Code::AmdCrlFell.fix());
    let (findings, kept) = memory.hold(vec![("", Ok(Facts::Amd(list(Product::Genoa, 8))))]);
    let verdict = findings.into_verdict("t", false, crate::Policy::strict().identity(), 0);
    assert_eq!(verdict.codes().collect::<Vec<_>>(), ["ST-COLL-19"]);
    assert_eq!(kept, memory);
}

#[test]
fn intels_addresses() {
    let urls = IntelUrls::new(&ServiceBase::intel(), &SUBJECT, Update::Early);
    let expected = IntelUrls {
        pck_crl: format!("{INTEL_PCS}/sgx/certification/v4/pckcrl?ca=platform&encoding=der"),
        tcb_info: format!("{INTEL_PCS}/tdx/certification/v4/tcb?fmspc=90C06F000000&update=early"),
        qe_identity: format!("{INTEL_PCS}/tdx/certification/v4/qe/identity?update=early"),
        root_crl: "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der".to_owned(),
        root_crl_form: CrlForm::Der,
    };
    assert_eq!(urls, expected);
    let cache = ServiceBase::parse("https://pccs.example:8081/").expect("a cache");
    let subject = QuoteSubject { ca: PckCa::Processor, ..SUBJECT };
    let urls = IntelUrls::new(&cache, &subject, Update::Standard);
    assert_eq!(urls.root_crl, "https://pccs.example:8081/sgx/certification/v4/rootcacrl");
    assert_eq!(urls.root_crl_form, CrlForm::Hex);
    assert!(urls.pck_crl.contains("ca=processor") && urls.tcb_info.ends_with("update=standard"));
}

#[test]
fn plain_http_is_for_loopback_only() {
    for good in [
        "https://pccs.example",
        "https://pccs.example:8081/",
        "http://127.0.0.1:4000",
        "http://[::1]:4000",
        "http://127.9.9.9",
    ] {
        assert!(ServiceBase::parse(good).is_ok(), "{good}");
    }
    for bad in [
        "http://pccs.example",
        "http://localhost:4000",
        "http://127.0.0.1.example",
        "http://[2001:db8::1]",
        "http://10.0.0.1",
        "https://",
        "https://user@host",
        "https://host/path",
        "https://host?x=1",
        "https://host/path/",
        "https://host\n",
        "ftp://host",
        "pccs.example",
        "",
    ] {
        assert_eq!(ServiceBase::parse(bad).expect_err(bad).entry(), Code::Base, "{bad:?}");
    }
    assert!(ServiceBase::parse(&format!("https://{}", "a".repeat(256))).is_err());
}
