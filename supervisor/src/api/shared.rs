//! What the handlers share.

use std::{path::PathBuf, sync::Arc};

use axum::extract::State;

use super::quotes::Strangers;
use crate::{
    daemon::pool::{PoolHandle, PoolSettings},
    vm::task::VmContext,
};

/// Everything that a handler may need; nothing in it changes.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) context: Arc<VmContext>,
    pub(crate) pool: PoolHandle,
    pub(crate) settings: Arc<PoolSettings>,
    pub(crate) results: PathBuf,
    pub(crate) strangers: Strangers,
}

pub(crate) type Api = State<Arc<Shared>>;
