//! Who a dstack VM says it is, read from the prefix of register 3 that only its boot can have written.
//!
//! Any program with root in the guest extends register 3 whenever it likes. Only what stands before `system-ready` was
//! written by the measured boot, so identity is read from there: each event once, in the order in which a boot makes them.
//! What follows are claims of the running software. A name of an identity behind the marker is refused outright.

use serde::Deserialize;

use super::{
    dstack::{DstackEvent, DstackLog},
    error::LogError,
    event::Register,
};
use crate::{
    event_log::extend,
    fixed_hex::{FixedHex, Hex32, Hex48, HexBytes},
};

/// The events of a boot, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BootPhase {
    SystemPreparing,
    AppId,
    ComposeHash,
    InitScriptHash,
    GpuPolicyHash,
    GpuAttestation,
    InstanceId,
    BootMrDone,
    MrKms,
    OsImageHash,
    KeyProvider,
    StorageFs,
    SystemReady,
}

impl BootPhase {
    pub const ALL: [Self; 13] = [
        Self::SystemPreparing,
        Self::AppId,
        Self::ComposeHash,
        Self::InitScriptHash,
        Self::GpuPolicyHash,
        Self::GpuAttestation,
        Self::InstanceId,
        Self::BootMrDone,
        Self::MrKms,
        Self::OsImageHash,
        Self::KeyProvider,
        Self::StorageFs,
        Self::SystemReady,
    ];

    /// Every boot makes these.
    const REQUIRED: [Self; 7] = [
        Self::SystemPreparing,
        Self::AppId,
        Self::ComposeHash,
        Self::InstanceId,
        Self::BootMrDone,
        Self::KeyProvider,
        Self::SystemReady,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::SystemPreparing => "system-preparing",
            Self::AppId => "app-id",
            Self::ComposeHash => "compose-hash",
            Self::InitScriptHash => "init-script-hash",
            Self::GpuPolicyHash => "gpu-policy-hash",
            Self::GpuAttestation => "gpu-attestation",
            Self::InstanceId => "instance-id",
            Self::BootMrDone => "boot-mr-done",
            Self::MrKms => "mr-kms",
            Self::OsImageHash => "os-image-hash",
            Self::KeyProvider => "key-provider",
            Self::StorageFs => "storage-fs",
            Self::SystemReady => "system-ready",
        }
    }

    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.name() == name)
    }

    /// How often one boot makes this event at most.
    fn limit(self) -> usize {
        if self == Self::InitScriptHash { 5 } else { 1 }
    }
}

/// What keeps the VM's disk key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyProviderKind {
    None,
    LocalSgx,
    Tpm,
    Kms,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyProvider {
    #[serde(rename = "name")]
    pub kind: KeyProviderKind,
    /// Enclave measurement (local-sgx) or public key (kms); empty for the others.
    pub id: HexBytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StorageFs {
    Zfs,
    Ext4,
}

/// What the software that runs in the VM says about itself: anybody with root in it can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeClaim {
    pub name: String,
    pub payload: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DstackIdentity {
    pub app_id: FixedHex<20>,
    pub compose_hash: Hex32,
    pub init_script_hashes: Vec<Hex32>,
    pub gpu_policy_hash: Option<Hex32>,
    /// JSON text that the guest made of its GPU check; not verified here.
    pub gpu_attestation: Option<Vec<u8>>,
    /// None where the application asked for none.
    pub instance_id: Option<FixedHex<20>>,
    pub mr_kms: Option<Hex32>,
    pub os_image_hash: Option<Hex32>,
    pub key_provider: KeyProvider,
    pub storage_fs: Option<StorageFs>,
    /// Register 3 right behind `boot-mr-done`: what keys are released against.
    pub boot_register: Hex48,
    pub claims: Vec<RuntimeClaim>,
}

impl DstackIdentity {
    /// Reads the identity of a log whose replay was checked.
    pub fn read(log: &DstackLog) -> Result<Self, LogError> {
        let boot = BootEvents::collect(log)?;
        let marker = |phase| boot.one(phase, empty("a marker has no payload")).map(drop);
        marker(BootPhase::SystemPreparing)?;
        marker(BootPhase::BootMrDone)?;
        marker(BootPhase::SystemReady)?;
        let missing = |phase: BootPhase| LogError::IdentityMissing { name: phase.name() };
        Ok(Self {
            app_id: boot
                .one(BootPhase::AppId, fixed("expected 20 bytes"))?
                .ok_or_else(|| missing(BootPhase::AppId))?,
            compose_hash: boot
                .one(BootPhase::ComposeHash, fixed("expected 32 bytes"))?
                .ok_or_else(|| missing(BootPhase::ComposeHash))?,
            init_script_hashes: boot.all(BootPhase::InitScriptHash, fixed("expected 32 bytes"))?,
            gpu_policy_hash: boot.one(BootPhase::GpuPolicyHash, fixed("expected 32 bytes"))?,
            gpu_attestation: boot.one(BootPhase::GpuAttestation, text)?,
            instance_id: boot.one(BootPhase::InstanceId, instance_id)?.flatten(),
            mr_kms: boot.one(BootPhase::MrKms, fixed("expected 32 bytes"))?,
            os_image_hash: boot.one(BootPhase::OsImageHash, fixed("expected 32 bytes"))?,
            key_provider: boot
                .one(BootPhase::KeyProvider, key_provider)?
                .ok_or_else(|| missing(BootPhase::KeyProvider))?,
            storage_fs: boot.one(BootPhase::StorageFs, storage_fs)?,
            boot_register: boot.register_at_boot_mr_done,
            claims: boot.claims,
        })
    }
}

/// Register 3, cut at its marker and held against the order of a boot.
struct BootEvents<'a> {
    events: Vec<(usize, BootPhase, &'a DstackEvent)>,
    register_at_boot_mr_done: Hex48,
    claims: Vec<RuntimeClaim>,
}

impl<'a> BootEvents<'a> {
    fn collect(log: &'a DstackLog) -> Result<Self, LogError> {
        let mut boot =
            Self { events: Vec::new(), register_at_boot_mr_done: Hex48::ZERO, claims: Vec::new() };
        let mut register = Hex48::ZERO;
        let mut last = None;
        let runtime = log.events.iter().enumerate();
        for (index, event) in runtime.filter(|(_, event)| event.logged.register == Register::Rtmr3)
        {
            register = extend(&register, &event.logged.digest);
            let phase = BootPhase::of(&event.name);
            if last == Some(BootPhase::SystemReady) {
                boot.claim(index, phase, event)?;
                continue;
            }
            let phase =
                phase.ok_or_else(|| LogError::EventUnknown { index, name: event.name.clone() })?;
            boot.check_place(index, phase, last)?;
            boot.events.push((index, phase, event));
            if phase == BootPhase::BootMrDone {
                boot.register_at_boot_mr_done = register;
            }
            last = Some(phase);
        }
        if last != Some(BootPhase::SystemReady) {
            return Err(LogError::MarkerMissing { name: BootPhase::SystemReady.name() });
        }
        let found = |phase| boot.events.iter().any(|(_, found, _)| *found == phase);
        match BootPhase::REQUIRED.into_iter().find(|phase| !found(*phase)) {
            None => Ok(boot),
            Some(phase @ BootPhase::BootMrDone) => {
                Err(LogError::MarkerMissing { name: phase.name() })
            }
            Some(phase) => Err(LogError::IdentityMissing { name: phase.name() }),
        }
    }

    fn check_place(
        &self,
        index: usize,
        phase: BootPhase,
        last: Option<BootPhase>,
    ) -> Result<(), LogError> {
        let seen = self.events.iter().filter(|(_, seen, _)| *seen == phase).count();
        if seen >= phase.limit() {
            return Err(LogError::Repeated { index, name: phase.name() });
        }
        if last.is_some_and(|last| phase < last) {
            return Err(LogError::EventOrder { index, name: phase.name() });
        }
        Ok(())
    }

    fn claim(
        &mut self,
        index: usize,
        phase: Option<BootPhase>,
        event: &DstackEvent,
    ) -> Result<(), LogError> {
        if let Some(phase) = phase {
            return Err(LogError::LateIdentity { index, name: phase.name() });
        }
        let payload = event.logged.payload.clone();
        self.claims.push(RuntimeClaim { name: event.name.clone(), payload });
        Ok(())
    }

    fn all<T>(
        &self,
        phase: BootPhase,
        read: impl Fn(&[u8]) -> Result<T, &'static str>,
    ) -> Result<Vec<T>, LogError> {
        let wanted = self.events.iter().filter(|(_, found, _)| *found == phase);
        let values = wanted.map(|(index, _, event)| {
            read(&event.logged.payload).map_err(|reason| LogError::IdentityValue {
                index: *index,
                name: phase.name(),
                reason,
            })
        });
        values.collect()
    }

    fn one<T>(
        &self,
        phase: BootPhase,
        read: impl Fn(&[u8]) -> Result<T, &'static str>,
    ) -> Result<Option<T>, LogError> {
        Ok(self.all(phase, read)?.into_iter().next())
    }
}

fn empty(reason: &'static str) -> impl Fn(&[u8]) -> Result<(), &'static str> {
    move |payload| if payload.is_empty() { Ok(()) } else { Err(reason) }
}

fn fixed<const N: usize>(
    reason: &'static str,
) -> impl Fn(&[u8]) -> Result<FixedHex<N>, &'static str> {
    move |payload| <[u8; N]>::try_from(payload).map(FixedHex).map_err(|_| reason)
}

fn instance_id(payload: &[u8]) -> Result<Option<FixedHex<20>>, &'static str> {
    if payload.is_empty() {
        Ok(None)
    } else {
        fixed("expected 20 bytes or none")(payload).map(Some)
    }
}

fn text(payload: &[u8]) -> Result<Vec<u8>, &'static str> {
    std::str::from_utf8(payload).map(|_| payload.to_vec()).map_err(|_| "expected text")
}

fn storage_fs(payload: &[u8]) -> Result<StorageFs, &'static str> {
    match payload {
        b"zfs" => Ok(StorageFs::Zfs),
        b"ext4" => Ok(StorageFs::Ext4),
        _ => Err("expected zfs or ext4"),
    }
}

fn key_provider(payload: &[u8]) -> Result<KeyProvider, &'static str> {
    let provider: KeyProvider =
        serde_json::from_slice(payload).map_err(|_| "expected a name that is known and an id")?;
    let identified = matches!(provider.kind, KeyProviderKind::LocalSgx | KeyProviderKind::Kms);
    if identified == provider.id.0.is_empty() {
        return Err("expected an id for local-sgx and kms, and none for the others");
    }
    Ok(provider)
}
