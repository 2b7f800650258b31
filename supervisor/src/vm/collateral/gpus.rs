//! Asking NVIDIA as far as it goes: one file or response that is not to be had costs no GPU the others.

use sealtune_evidence::{
    collateral::{GpuInquiry, Inquiry as _, Missing, Next},
    nvidia::NvidiaCollateral,
};
use tokio::time::{Instant, timeout_at};

use crate::client::inquiry::Clients;

/// What came by `end`, and what is missing.
pub(super) async fn fetch(
    mut inquiry: GpuInquiry<'_>,
    end: Instant,
) -> (NvidiaCollateral, Vec<Missing>) {
    let (mut answer, mut clients) = (None, Clients::default());
    loop {
        let ask = match inquiry.go_on(answer.take()) {
            Ok(Next::Done(document)) => return (document, inquiry.so_far().1),
            Ok(Next::Ask(ask)) => ask,
            Err(error) => {
                if inquiry.pass_over(&error.to_string(), false) {
                    continue;
                }
                let (document, mut missing) = inquiry.so_far();
                missing.push(Missing { part: "the rest".into(), reason: error.to_string() });
                return (document, missing);
            }
        };
        match timeout_at(end, clients.make(&ask)).await {
            Ok(Ok(got)) => answer = Some(got),
            Ok(Err(reason)) => {
                inquiry.pass_over(&reason, true);
            }
            Err(_) => {
                inquiry.pass_over("it took too long", true);
            }
        }
    }
}

/// For the log: the first few parts by name.
pub(super) fn told(missing: &[Missing]) -> String {
    let named: Vec<_> =
        missing.iter().take(4).map(|it| format!("{} ({})", it.part, it.reason)).collect();
    let more = missing.len().saturating_sub(named.len());
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", named.join(", "))
}
