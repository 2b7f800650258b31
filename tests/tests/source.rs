//! Content comes from a web server, which may break off and may lie. No lie reaches a container.

use sealtune_content::{ContentId, Scheme};
use sealtune_tests::{
    ContentServer, Customer, Daemon, Inputs, JOB, Job, Manner, Options, stage_or_skip,
};
use serde_json::Value;

/// Three segments of 256 KiB, the last one not full.
const LENGTH: usize = 600_000;
const SEGMENT: usize = 256 << 10;
const MIDDLE: usize = 300_000;

/// Other content for each number.
fn model(number: u8) -> Vec<u8> {
    (0..LENGTH).map(|at| ((at * 31) >> 3) as u8 ^ number).collect()
}

/// Inputs whose model is known by its id alone.
fn inputs_with(id: &ContentId) -> Inputs {
    let mut inputs = Inputs::new("plain");
    inputs.model = id.to_string().into();
    inputs
}

fn with_source(server: &ContentServer) -> Options {
    let more = vec!["--content-url".to_owned(), server.template()];
    Options { max_vms: 2, more, ..Options::default() }
}

#[track_caller]
fn nothing_ran(customer: &Customer, daemon: &Daemon, view: &Value) {
    let history = view["history"].to_string();
    assert!(!history.contains("preparing") && !history.contains("training"), "{view}");
    assert!(view["result"].is_null(), "{view}");
    let job = view["job"].as_str().unwrap_or_default();
    let said = customer.logs(daemon, job);
    assert_eq!(said["log"].as_str().unwrap_or_default(), "", "{said}");
}

#[test]
fn a_source_that_breaks_off_is_asked_for_the_rest() {
    let stage = stage_or_skip!();
    let server = ContentServer::start();
    let cut = server.offers(&model(1), Scheme::Sha256, Manner::CutsOnce(MIDDLE));
    // The first answer is for the map of its segments, the second is the content, and lies.
    let lie = Manner::WrongByteIn { answer: 1, at: MIDDLE };
    let wrong_once = server.offers(&model(2), Scheme::Zg, lie);
    let daemon = Daemon::start(&stage, with_source(&server));
    let customer = Customer::new(&stage);

    let jobs = [cut, wrong_once].map(|id| {
        let inputs = inputs_with(&id);
        let script = stage.script("ok_tiny.py");
        (customer.submit(&daemon, &Job::plain(&inputs, script)), inputs)
    });
    for (job, _) in &jobs {
        let view = customer.wait(&daemon, job, JOB);
        assert_eq!(view["state"], "delivered", "{view}\n{}", daemon.log());
    }
    let asked = server.asked_from(&cut);
    assert!(matches!(asked[..], [0, rest] if (1..=MIDDLE).contains(&rest)), "{asked:?}");
    // Only from the segment that was wrong.
    assert_eq!(server.asked_from(&wrong_once), [0, 0, SEGMENT]);
}

#[test]
fn no_lie_of_a_source_reaches_a_container() {
    let stage = stage_or_skip!();
    let server = ContentServer::start();
    let lies = [
        ("one byte in the middle", Manner::WrongByte(MIDDLE), "ST-CONTENT-32"),
        ("longer than it is named", Manner::SaysLength(LENGTH + 1), "ST-SOURCE-05"),
        ("shorter than it is named", Manner::SaysLength(LENGTH - 1), "ST-SOURCE-05"),
        ("without end", Manner::Endless, "ST-SOURCE-05"),
        ("always broken off at the same place", Manner::EndsAt(MIDDLE), "ST-SOURCE-04"),
        ("an error", Manner::Fails, "ST-SOURCE-04"),
    ];
    let daemon = Daemon::start(&stage, with_source(&server));
    let customer = Customer::new(&stage);
    let submit = |id: &ContentId| {
        let inputs = inputs_with(id);
        customer.submit(&daemon, &Job::plain(&inputs, stage.script("ok_tiny.py")))
    };
    let mut jobs = Vec::new();
    for (number, (what, manner, code)) in (10..).zip(lies) {
        let id = server.offers(&model(number), Scheme::Sha256, manner);
        jobs.push((what, submit(&id), code));
    }
    // And one that the source does not have.
    let elsewhere = ContentServer::start();
    let missing = elsewhere.offers(&model(99), Scheme::Sha256, Manner::Honest);
    jobs.push(("not there", submit(&missing), "ST-SOURCE-01"));

    for (what, job, code) in jobs {
        let view = customer.wait(&daemon, &job, JOB);
        assert_eq!(view["failure"]["code"], code, "{what}: {view}\n{}", daemon.log());
        assert!(view["failure"]["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{view}");
        nothing_ran(&customer, &daemon, &view);
        println!("{what}: {code}");
    }
    assert!(server.missed(&missing));
}

/// What the customer has uploaded is not asked of anybody else.
#[test]
fn an_uploaded_dataset_is_not_fetched_elsewhere() {
    let stage = stage_or_skip!();
    let server = ContentServer::start();
    let daemon = Daemon::start(&stage, with_source(&server));
    let customer = Customer::new(&stage);
    let model = server.offers(&model(1), Scheme::Sha256, Manner::Honest);
    let inputs = inputs_with(&model);
    let dataset = std::fs::read(&inputs.dataset).unwrap_or_default();
    let uploaded = server.offers(&dataset, Scheme::Sha256, Manner::WrongByte(3));
    let job = customer.submit(&daemon, &Job::plain(&inputs, stage.script("ok_tiny.py")));
    let view = customer.wait(&daemon, &job, JOB);
    assert_eq!(view["state"], "delivered", "{view}");
    assert!(server.asked_from(&uploaded).is_empty(), "its name went to a stranger");
}
