//! A job from its release to its end, released again by itself when its VM was lost.

use super::{
    CliError, JobRecord,
    follow::{Ended, News, Voice, check_outcome, follow},
    release::Releaser,
};
use crate::api::types::JobView;

/// Follows a released job to its end. Each further release is appraised like the first.
pub(crate) async fn to_the_end(
    releaser: &Releaser<'_>,
    record: &mut JobRecord,
    mut view: JobView,
    release_timeout: u64,
    tell: &mut dyn FnMut(News<'_>),
) -> Result<JobView, CliError> {
    loop {
        let ended = {
            let mut voice = Voice::of(Some(record), Some(releaser.owner));
            follow(releaser.connection, view, &mut voice, tell).await?
        };
        view = match ended {
            Ended::Final(last) => {
                check_outcome(&last)?;
                return Ok(last);
            }
            Ended::AwaitsRelease(waiting) => {
                let job = waiting.job;
                releaser.progress.note(format!("job {job}: its VM was lost, releasing it again"));
                releaser.release(record, release_timeout).await?
            }
        };
    }
}
