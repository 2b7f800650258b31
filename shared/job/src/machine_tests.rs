//! Every state with every event, as one table.

use super::*;
use crate::ExitClass;

const KINDS: [JobKind; 2] = [JobKind::Sealed, JobKind::Plain];

fn states() -> Vec<JobState> {
    use JobState::*;
    vec![
        Queued,
        AwaitingRelease,
        Fetching,
        Preparing,
        Training,
        Sealing,
        Delivering,
        Delivered,
        Acknowledged,
        Failed { reason: FailReason::VmLost },
        Cancelled,
    ]
}

fn events() -> Vec<JobEvent> {
    use JobEvent::*;
    let mut events = vec![VmReady, Accepted, ReleaseDeadline, Exited(TrainingExit::Code(0))];
    events.extend([Exited(TrainingExit::Code(1)), Stored, JobEvent::Acknowledged]);
    events.extend([AgentFailed(FailReason::Guest { code: "ST-AGENT-50".into() }), VmLost]);
    events.push(CancelRequested);
    for phase in [
        JobPhase::Fetching,
        JobPhase::Preparing,
        JobPhase::Training,
        JobPhase::Sealing,
        JobPhase::Delivering,
    ] {
        events.push(Phase(phase));
    }
    events
}

/// What must happen, said independently of the machine: `None` = denied.
fn expected(
    state: &JobState,
    kind: JobKind,
    attempt: u32,
    event: &JobEvent,
) -> Option<&'static str> {
    let order = [
        "queued",
        "awaiting-release",
        "fetching",
        "preparing",
        "training",
        "sealing",
        "delivering",
        "delivered",
    ];
    let rank = order.iter().position(|name| *name == state.name());
    let running = rank.is_some_and(|rank| (2..=6).contains(&rank));
    let open = rank.is_some_and(|rank| rank <= 6);
    match event {
        JobEvent::Acknowledged => (state.name() == "delivered").then_some("acknowledged"),
        _ if !open => None,
        JobEvent::CancelRequested => Some("cancelled"),
        JobEvent::AgentFailed(_) => Some("failed"),
        JobEvent::VmLost if attempt >= MAX_ATTEMPTS => Some("failed"),
        JobEvent::VmLost if kind == JobKind::Plain || state.name() == "queued" => Some("queued"),
        JobEvent::VmLost => Some("awaiting-release"),
        JobEvent::VmReady => match (kind, state.name()) {
            (JobKind::Sealed, "queued" | "awaiting-release") => Some("awaiting-release"),
            (JobKind::Plain, "queued") => Some("queued"),
            _ => None,
        },
        JobEvent::Accepted => match (kind, state.name()) {
            (JobKind::Sealed, "awaiting-release") | (JobKind::Plain, "queued") => Some("fetching"),
            _ => None,
        },
        JobEvent::ReleaseDeadline => (state.name() == "awaiting-release").then_some("failed"),
        JobEvent::Exited(exit) if state.name() == "training" => {
            Some(if exit.class() == ExitClass::Succeeded { "training" } else { "failed" })
        }
        JobEvent::Exited(_) => None,
        JobEvent::Stored => (state.name() == "delivering").then_some("delivered"),
        JobEvent::Phase(phase) => {
            let target = 2 + *phase as usize;
            let forward = running && rank.is_some_and(|rank| target >= rank);
            let first = !running && target == 2;
            (forward || first).then(|| order[target])
        }
    }
}

#[test]
fn every_state_meets_every_event() {
    let mut pairs = 0;
    for kind in KINDS {
        for attempt in 1..=MAX_ATTEMPTS {
            for state in states() {
                for event in events() {
                    let outcome = transition(&state, Standing { kind, attempt }, &event);
                    let got = outcome.as_ref().ok().map(|(state, _)| state.name());
                    assert_eq!(
                        got,
                        expected(&state, kind, attempt, &event),
                        "{kind:?} {attempt} {state:?} {event:?}"
                    );
                    pairs += 1;
                }
            }
        }
    }
    assert_eq!(pairs, 2 * 3 * 11 * 15);
}

#[test]
fn a_job_that_ends_without_delivery_stops_its_vm_and_keeps_no_partial_result() {
    for state in states().into_iter().filter(|state| !state.is_final()) {
        for event in [JobEvent::CancelRequested, JobEvent::AgentFailed(FailReason::ReleaseTimeout)]
        {
            let standing = Standing { kind: JobKind::Sealed, attempt: 1 };
            let (_, effects) = transition(&state, standing, &event).expect("legal");
            assert_eq!(effects, [Effect::StopVm, Effect::DiscardPartialResult]);
        }
    }
}

#[test]
fn only_code_zero_goes_on() {
    for exit in [
        TrainingExit::Code(1),
        TrainingExit::Signal(9),
        TrainingExit::OutOfMemory,
        TrainingExit::Timeout,
        TrainingExit::Cancelled,
    ] {
        let standing = Standing { kind: JobKind::Sealed, attempt: 1 };
        let (state, _) =
            transition(&JobState::Training, standing, &JobEvent::Exited(exit)).expect("legal");
        assert_eq!(state.name(), "failed");
    }
}
