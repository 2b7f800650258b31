//! The launch check: nothing that the supervisor says counts before its configuration is the one that the CPU measured.
//!
//! ```text
//! bytes -> parse -> token -> digest = MRCONFIGID or HOST_DATA -> RTMR3 `sealtune-launch` -> keys -> disks -> layers -> GPUs
//! ```
//! Keys are made after the check and after the generator has seeded, so that no copy of an earlier state knows them.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sealtune_evidence::{
    ClaimsBuilder, Event, EventLog, FixedHex, Hex32, HexBytes, HpkeClaim, HpkeSuite,
    LaunchConfiguration, LaunchDigest, Layer, launch::MAX_LAUNCH_BYTES,
};
use sealtune_seal::{RecipientKeyPair, Suite};
use sealtune_wire::v1::Rtmr3;
use subtle::ConstantTimeEq as _;

use super::error::ServeError;
use super::evidence::Attester;
use super::machine::{Machine, OpenLayer, Places};
use crate::device::{disks, verity};
use crate::gpu::{self, Gpus, NodePlaces, Sysfs};
use crate::tee::{Tee, entropy};

const BLOCK_BYTES: u32 = 4096;

/// A machine that passed, and the one key of it that does not outlive its first job.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) machine: Machine,
    pub(crate) hpke: RecipientKeyPair,
}

pub(crate) fn decode(text: &str) -> Result<Vec<u8>, ServeError> {
    // Base64 is a third longer; the bound comes before the decoding.
    if text.len() > MAX_LAUNCH_BYTES / 3 * 4 + 4 {
        return Err(ServeError::LaunchEncoding);
    }
    STANDARD.decode(text).map_err(|_| ServeError::LaunchEncoding)
}

/// Compares a token's hash in constant time.
pub(crate) fn token_matches(expected: &[u8; 32], found: &[u8; 32]) -> bool {
    expected.ct_eq(found).into()
}

pub(crate) async fn check(
    bytes: Vec<u8>,
    token_hash: [u8; 32],
    mut tee: Tee,
    places: &Places,
) -> Result<Launched, (Tee, ServeError)> {
    match check_configuration(&bytes, &token_hash, &tee).await {
        Ok((configuration, digest)) => {
            match set_up(configuration, digest, bytes, &mut tee, places).await {
                Ok((parts, hpke)) => Ok(Launched { machine: parts.with(tee), hpke }),
                Err(error) => Err((tee, error)),
            }
        }
        Err(error) => Err((tee, error)),
    }
}

async fn check_configuration(
    bytes: &[u8],
    token_hash: &[u8; 32],
    tee: &Tee,
) -> Result<(LaunchConfiguration, LaunchDigest), ServeError> {
    let configuration = LaunchConfiguration::parse(bytes)?;
    if !token_matches(configuration.token_hash.as_bytes(), token_hash) {
        return Err(ServeError::Token);
    }
    let digest = LaunchDigest::of(bytes);
    tee.measured_launch().await?.check(&digest)?;
    Ok((configuration, digest))
}

/// A machine that lacks only its TEE.
struct Parts {
    configuration: LaunchConfiguration,
    configuration_bytes: Vec<u8>,
    instance: Hex32,
    rtmr3: Rtmr3,
    receipt_key: Ed25519KeyPair,
    log: EventLog,
    claims: ClaimsBuilder,
    layers: Vec<OpenLayer>,
    gpus: Option<Gpus>,
}

impl Parts {
    fn with(self, tee: Tee) -> Machine {
        Machine {
            configuration: self.configuration,
            configuration_bytes: self.configuration_bytes,
            instance: self.instance.0,
            rtmr3: self.rtmr3,
            has_own_image: tee.has_own_image(),
            boot_log: tee.boot_log(),
            receipt_key: self.receipt_key,
            attester: Attester::new(tee, self.log, self.claims, self.gpus),
            layers: self.layers,
        }
    }
}

async fn set_up(
    configuration: LaunchConfiguration,
    digest: LaunchDigest,
    configuration_bytes: Vec<u8>,
    tee: &mut Tee,
    places: &Places,
) -> Result<(Parts, RecipientKeyPair), ServeError> {
    entropy::prepare().map_err(ServeError::Randomness)?;
    let event = Event::launch(&digest);
    let rtmr3 = tee.extend(&event).await?;
    let mut log = EventLog::default();
    if rtmr3 == Rtmr3::Available {
        log.push(event);
    }
    let mut instance = FixedHex([0; 32]);
    getrandom::fill(&mut instance.0).map_err(|error| ServeError::Randomness(error.to_string()))?;
    let hpke = RecipientKeyPair::generate(Suite::XWing)?;
    let receipt_key = make_receipt_key()?;
    let public = <[u8; 32]>::try_from(receipt_key.public_key().as_ref())
        .map_err(|_| ServeError::ReceiptKey)?;
    let claims = ClaimsBuilder::new(
        instance,
        configuration.role,
        configuration.vm_mode,
        FixedHex(public),
        HpkeClaim { suite: HpkeSuite::XWing, key: HexBytes(hpke.public().as_bytes().to_vec()) },
        digest,
    );
    if tee.has_own_image() {
        refuse_unlisted_disks(&configuration.layers, &places.sysfs)?;
        if !configuration.layers.is_empty() {
            places.modules_loaded().await?;
        }
    }
    let layers = open_layers(&configuration.layers, places)?;
    let gpus = find_gpus(&configuration, &layers, places)?;
    let parts = Parts {
        configuration,
        configuration_bytes,
        instance,
        rtmr3,
        receipt_key,
        log,
        claims,
        layers,
        gpus,
    };
    Ok((parts, hpke))
}

fn make_receipt_key() -> Result<Ed25519KeyPair, ServeError> {
    let document =
        Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| ServeError::ReceiptKey)?;
    Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|_| ServeError::ReceiptKey)
}

/// A disk that the owner's configuration does not name has no business here, even if nobody would open it.
fn refuse_unlisted_disks(layers: &[Layer], sysfs: &Path) -> Result<(), ServeError> {
    let Ok(listing) = std::fs::read_dir(sysfs.join("block")) else { return Ok(()) };
    for entry in listing.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("vd") {
            continue;
        }
        let serial = std::fs::read_to_string(entry.path().join("serial")).unwrap_or_default();
        let is_listed = layers
            .iter()
            .any(|layer| disks::layer_serial(&layer.root.to_string()) == serial.trim_end());
        if !is_listed {
            return Err(ServeError::UnlistedDisk(name));
        }
    }
    Ok(())
}

fn open_layers(layers: &[Layer], places: &Places) -> Result<Vec<OpenLayer>, ServeError> {
    let mut opened = Vec::with_capacity(layers.len());
    for layer in layers {
        #[cfg(test)]
        if let Some(folder) = places.stand_in.clone() {
            opened.push(OpenLayer { root: layer.root.0, folder });
            continue;
        }
        if layer.data_block_size != BLOCK_BYTES || layer.hash_block_size != BLOCK_BYTES {
            return Err(ServeError::LayerParameters(layer.name.clone()));
        }
        let device = verity::open_layer(&verity::VerityParams {
            root_hex: layer.root.to_string(),
            data_blocks: layer.data_blocks,
            hash_offset: layer.hash_offset,
            salt_hex: hex::encode(&layer.salt.0),
        })?;
        // The root names the folder: a layer's name is the host's text.
        let folder = places.layers.join(layer.root.to_string());
        verity::mount_layer(&device, &folder)?;
        opened.push(OpenLayer { root: layer.root.0, folder });
    }
    Ok(opened)
}

/// As many GPUs as are listed, and no other; the driver comes with a layer that was measured.
fn find_gpus(
    configuration: &LaunchConfiguration,
    layers: &[OpenLayer],
    places: &Places,
) -> Result<Option<Gpus>, ServeError> {
    let named = configuration.layers.iter().zip(layers);
    let layer = named.into_iter().find(|(layer, _)| layer.name == gpu::LAYER);
    let folder = layer.map(|(_, open)| open.folder.as_path());
    let mut gpus = Gpus::find(Sysfs { root: &places.sysfs }, &configuration.gpus, folder)?;
    if let Some(gpus) = &mut gpus {
        let Places { proc, dev, make_node, .. } = places;
        gpus.make_nodes(&NodePlaces { proc, dev, make: *make_node })?;
    }
    Ok(gpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sysfs(disks: &[(&str, &str)]) -> tempfile::TempDir {
        let sysfs = tempfile::tempdir().unwrap();
        for (name, serial) in disks {
            let folder = sysfs.path().join("block").join(name);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("serial"), serial).unwrap();
        }
        sysfs
    }

    fn layer() -> Layer {
        Layer {
            name: "training".into(),
            root: FixedHex([0xab; 32]),
            data_blocks: 1,
            hash_offset: 4096,
            data_block_size: 4096,
            hash_block_size: 4096,
            hash_algorithm: sealtune_evidence::launch::HashAlgorithm::Sha256,
            salt: HexBytes(vec![]),
        }
    }

    #[test]
    fn only_listed_disks_may_be_there() {
        let listed = "ab".repeat(10);
        assert!(refuse_unlisted_disks(&[layer()], sysfs(&[("vda", &listed)]).path()).is_ok());
        assert!(refuse_unlisted_disks(&[], sysfs(&[("loop0", "")]).path()).is_ok());
        for other in ["", "abab", "cdcdcdcdcdcdcdcdcdcd"] {
            let sysfs = sysfs(&[("vda", &listed), ("vdb", other)]);
            let error = refuse_unlisted_disks(&[layer()], sysfs.path()).unwrap_err();
            assert_eq!(error.code(), "ST-AGENT-63");
        }
    }

    #[test]
    fn other_block_sizes_are_refused_before_a_disk_is_touched() {
        let odd = Layer { hash_block_size: 1024, ..layer() };
        let error = open_layers(&[odd], &Places::default()).unwrap_err();
        assert_eq!(error.code(), "ST-AGENT-64");
    }

    #[test]
    fn configurations_are_bounded_before_they_are_decoded() {
        assert_eq!(decode(&"A".repeat(200_000)).unwrap_err().code(), "ST-AGENT-60");
        assert_eq!(decode("not base64").unwrap_err().code(), "ST-AGENT-60");
        assert_eq!(decode("AAEC").unwrap(), [0, 1, 2]);
    }
}
