//! Builder of the measured guest image and of training layers. README.md says what comes out.
#![forbid(unsafe_code)]

pub mod apt;
pub mod cli;
pub mod digest;
pub mod erofs;
pub mod error;
pub mod image;
pub mod initramfs;
pub mod inspect;
pub mod kernel;
pub mod layer;
pub mod measure;
pub mod metadata;
pub mod modinfo;
pub mod module_signature;
pub mod output;
pub mod packages;
pub mod profile;
pub mod release;
pub mod rootfs;
pub mod sources;
pub mod verity;
