//! `evidence` on a bundle that Sealtune's agent made in a dstack guest.
#![expect(clippy::expect_used, reason = "scenery of tests: what fails here fails the test")]

#[expect(dead_code, reason = "another test uses the rest of the desk")]
mod desk;
#[path = "../../receipt/tests/scene/mod.rs"]
#[expect(dead_code, reason = "another test uses the rest of the scene")]
mod scene;

use sealtune_evidence::{Claims, event_log::LAUNCH_EVENT, simulated::SimulatedDstack};
use sealtune_verify::{Report, Surroundings};

use desk::Folder;
use scene::{Boot, JOB, NOW, OFFER_NONCE};

fn files() -> Folder {
    let boot = Boot::new(1);
    let launch = boot.launch.digest().expect("valid").0;
    let guest = SimulatedDstack::new(vec![(LAUNCH_EVENT, launch.0.to_vec())]);
    let claims = Claims::parse(&boot.offer().claims.0).expect("claims");
    let bundle = guest.evidence(&boot.platform, &boot.launch, &claims, NOW).expect("evidence");
    let files = Folder::with(&bundle);
    let references = guest.references(boot.launch.shape).expect("values");
    files.write("reference.json", &references.to_bytes().expect("writes"));
    files
}

fn verify(files: &Folder, rest: &str) -> Report {
    let line = format!(
        "evidence @offer.json --purpose offer --nonce {OFFER_NONCE} --job {JOB} \
         --reference @reference.json --simulated-root @root.der {rest}"
    );
    files.run(&line, &Surroundings::offline(NOW)).expect("judges")
}

#[test]
fn it_is_accepted_under_the_policy_dstack_with_its_lists_only() {
    let files = files();
    let listed = |compose: [u8; 32]| {
        let (compose, os_image) = (hex::encode(compose), hex::encode(SimulatedDstack::OS_IMAGE));
        format!("--policy dstack --compose-hash {compose} --os-image {os_image}")
    };
    let good = verify(&files, &listed(SimulatedDstack::COMPOSE));
    assert!(good.accepted, "{}", good.stdout);
    // The launch configuration is never affirmed, and the verdict says what is tolerated.
    assert!(good.stdout.contains("warn launch") && good.stdout.contains("ST-DSTA-20"));
    assert!(good.stdout.contains("policy tolerates: launch configurations that software"));
    assert!(good.stdout.contains("dstack-0.5.5"));

    let other = verify(&files, &listed([1; 32]));
    assert!(!other.accepted && other.stdout.contains("ST-EVID-18"), "{}", other.stdout);
    for name in ["strict", "0g", "dev"] {
        let refused = verify(&files, &format!("--policy {name}"));
        assert!(!refused.accepted && refused.stdout.contains("ST-DSTA-20"), "{name}");
        assert!(refused.stdout.contains("ST-EVID-37"), "{name}");
    }
}
