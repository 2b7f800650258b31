//! Routes: the customers' and the operator's.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    middleware::map_response,
    routing::{get, post, put},
};

use super::{
    auth::Caller,
    contents,
    error::in_one_form,
    evidence, jobs, results,
    shared::{Api, Shared},
    types::{Health, ImageView, UPLOAD_PART},
    uploads, vms,
};

/// Longest JSON body: a plain job carries its script.
const JSON_LIMIT: usize = 2 << 20;
/// A nonce and a purpose.
const CHALLENGE_LIMIT: usize = 4 << 10;

fn customers() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v1/health", get(health))
        .route("/v1/job/{job}/evidence/{purpose}", get(evidence::published))
        .route("/v1/jobs", get(jobs::list).post(jobs::submit))
        .route("/v1/jobs/{job}", get(jobs::show))
        .route("/v1/jobs/{job}/cancel", post(jobs::cancel))
        .route("/v1/jobs/{job}/acknowledge", post(jobs::acknowledge))
        .route("/v1/jobs/{job}/release", post(jobs::release))
        .route("/v1/jobs/{job}/frames", get(jobs::frames))
        .route("/v1/jobs/{job}/log", get(jobs::plain_log))
        .route("/v1/jobs/{job}/result", get(results::result))
        .route("/v1/jobs/{job}/receipt", get(evidence::receipt))
        .route("/v1/jobs/{job}/evidence/{purpose}", get(evidence::stored))
        .layer(DefaultBodyLimit::max(JSON_LIMIT))
        .merge(
            Router::new()
                .route("/v1/attestation", post(evidence::attestation))
                .route("/v1/jobs/{job}/offer", post(evidence::offer))
                .layer(DefaultBodyLimit::max(CHALLENGE_LIMIT)),
        )
        .merge(
            Router::new()
                .route("/v1/jobs/{job}/dataset", get(uploads::show).put(uploads::part))
                .layer(DefaultBodyLimit::max(UPLOAD_PART)),
        )
}

/// The routes on TCP.
pub(crate) fn public(shared: Arc<Shared>) -> Router {
    customers()
        .layer(axum::Extension(Caller::Public))
        .layer(map_response(in_one_form))
        .with_state(shared)
}

/// The routes on the operator's socket: the customers' without signatures, and his own.
pub(crate) fn operator(shared: Arc<Shared>) -> Router {
    customers()
        .route("/v1/vms", get(vms::list).post(vms::start))
        .route("/v1/vms/{vm}", get(vms::show).delete(vms::remove))
        .route("/v1/vms/{vm}/stop", post(vms::stop))
        .route("/v1/vms/{vm}/console", get(vms::console))
        .route("/v1/content/gc", post(contents::collect))
        .merge(
            Router::new()
                .route("/v1/content", put(contents::add).get(contents::list))
                .layer(DefaultBodyLimit::disable()),
        )
        .layer(axum::Extension(Caller::Operator))
        .layer(map_response(in_one_form))
        .with_state(shared)
}

async fn health(State(shared): Api) -> Json<Health> {
    let image = |layer: &crate::vm::definition::DefinedLayer| ImageView {
        name: layer.layer.name.clone(),
        verity_root: sealtune_job::Hex(layer.layer.root.0),
        bytes: layer.layer.hash_offset,
    };
    Json(Health {
        release: env!("CARGO_PKG_VERSION").to_owned(),
        accelerator: shared.settings.ability.accelerator.name().to_owned(),
        tee: shared.context.tee.name().to_owned(),
        images: shared.settings.layers.iter().map(image).collect(),
    })
}
