//! The connections between daemon and VM are cut in the middle: everything goes on where it was.

use std::collections::BTreeMap;

use sealtune_content::{ContentId, Scheme};
use sealtune_job::Hex;
use sealtune_tests::{
    BOOT, Customer, Cuts, Cutter, Daemon, Inputs, JOB, Job, Options, Passed, find_door,
    stage_or_skip, until,
};
use sealtune_wire::hello::Purpose;

const MIB: usize = 1 << 20;
/// Lines that the script says while the connection is cut under it.
const LINES: usize = 30;

/// Says its lines slowly, then leaves the digest of its data and two MiB that do not compress.
const SCRIPT: &str = r#"
import hashlib, os, sys, time
words = sys.argv
data = open(words[words.index("--data_path") + 1], "rb").read()
out = words[words.index("--output_dir") + 1]
for number in range(30):
    print(f"line {number}.", flush=True)
    time.sleep(0.1)
open(os.path.join(out, "digest.txt"), "w").write(hashlib.sha256(data).hexdigest())
open(os.path.join(out, "noise.bin"), "wb").write(os.urandom(2 << 20))
"#;

/// Connections of each transfer, in their order.
fn transfers(passed: &[Passed]) -> BTreeMap<Hex<16>, Vec<(u64, &Passed)>> {
    let mut transfers: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for one in passed {
        if let Purpose::Stream { stream, offset } = one.purpose {
            transfers.entry(stream).or_default().push((offset, one));
        }
    }
    transfers
}

#[test]
fn a_cut_connection_goes_on_where_it_was() {
    let stage = stage_or_skip!();
    let daemon = Daemon::start(&stage, Options::default());
    let customer = Customer::new(&stage);
    let mut inputs = Inputs::new("small");
    let line = "{\"text\": \"canary-cut-7e21 and the rest of a line\"}\n";
    inputs.dataset = inputs.file("large.jsonl", &line.repeat(3 * MIB / line.len()));
    customer.has_model(&daemon, &inputs);
    let script = inputs.file("slow.py", SCRIPT);
    let mut submission = customer.submits(&daemon, &Job::sealed(&inputs, script));
    let id = submission.job();

    let door = until(BOOT, "the VM has a socket", || {
        let vms = daemon.vms();
        find_door(&daemon, vms.first()?["vm"].as_str()?)
    });
    let cutter = Cutter::place(&door, Cuts { into_vm: MIB, out_of_vm: MIB / 2 });
    submission.says("line 3.", JOB);
    assert_eq!(cutter.cut_control(), 1, "one control connection at a time");
    let ended = submission.ends(JOB);
    assert_eq!(ended.exit, 0, "{ended}\n{}", daemon.log());

    // Each line came once, whatever was sent again.
    for number in 0..LINES {
        let line = format!("line {number}.");
        assert_eq!(ended.stderr.matches(&line).count(), 1, "{line} in {ended}");
    }
    let (fetched, out) = customer.fetch(&daemon, &id, "result");
    assert_eq!(fetched.json()["verdict"]["outcome"], "accepted", "{fetched}");
    let digest = std::fs::read_to_string(out.join("output_model/digest.txt")).expect("a digest");
    let dataset = std::fs::File::open(&inputs.dataset).expect("the dataset");
    let ContentId::Sha256 { digest: expected, .. } =
        sealtune_content::identify(dataset, Scheme::Sha256).expect("its id")
    else {
        panic!("another id");
    };
    assert_eq!(digest, Hex(expected).to_string());
    assert_eq!(daemon.job(&id)["attempt"], 1);

    let passed = cutter.passed();
    let controls = passed.iter().filter(|one| matches!(one.purpose, Purpose::Control { .. }));
    assert!(controls.count() >= 2, "{passed:?}");
    let (mut went_in, mut came_out) = (false, false);
    for connections in transfers(&passed).values() {
        for pair in connections.windows(2) {
            let [(_, cut), (asked, next)] = pair else { continue };
            if cut.is_cut && cut.into_vm >= MIB {
                println!("cut after {} bytes in, on from {:?}", cut.into_vm, next.welcomed);
                went_in = next.welcomed.is_some_and(|offset| offset > 0);
            } else if cut.is_cut {
                println!("cut after {} bytes out, on from {asked}", cut.out_of_vm);
                came_out = *asked > 0;
            }
        }
    }
    assert!(went_in && came_out, "{passed:?}");
}
