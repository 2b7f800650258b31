//! The two keys that everything here leads to: NVIDIA's device identity root, which certifies GPUs, and its RIM signing
//! root, which certifies reference measurements. They are compiled in; nothing in evidence or collateral can add one.

use ring::digest;

use super::certificate::Point;

/// `NVIDIA Device Identity CA`.
const DEVICE_ROOT: &str = concat!(
    "040e4c14a33bf8a5626658db4129607e4cbf4519c4412716f4d0d917c4978005bdeabeaefd57bc66082d718a4f8b6052e1",
    "516ee8a7c422b84de857071bb58fd395bea0cfa1c63ee7c80d6bd63901d91cbbd187d3857dc16b5cceaf238ff8c27dbd"
);
/// `NVIDIA CoRIM signing Root CA`.
const RIM_ROOT: &str = concat!(
    "04b840b28bdbcd33e230da57d4cf2065747030682d4717b4c2829d7641c1325139b74da831c2be3c779e7e2b6548956608",
    "0e4ecd94021075c57f15fedeb862c8f906ae8fddc7b12238597dbdf0fa56e78453833f6d0be43af3871a47f057584799"
);

/// Whose roots these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Nvidia,
    #[cfg(feature = "simulated-tee")]
    Simulated,
}

/// The pair of roots that a judgement rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NvidiaRoots {
    pub(crate) device: Point,
    pub(crate) rim: Point,
    owner: Owner,
}

impl NvidiaRoots {
    pub fn nvidia() -> Self {
        Self { device: point(DEVICE_ROOT), rim: point(RIM_ROOT), owner: Owner::Nvidia }
    }

    /// Roots of a simulated maker of GPUs, for tests and development only.
    #[cfg(feature = "simulated-tee")]
    pub fn simulated(device: [u8; 97], rim: [u8; 97]) -> Self {
        Self { device, rim, owner: Owner::Simulated }
    }

    pub fn is_simulated(&self) -> bool {
        self.owner != Owner::Nvidia
    }

    /// What findings name as the ground of a claim.
    pub fn anchor(&self) -> String {
        if self.is_simulated() {
            let id = digest::digest(&digest::SHA384, &self.device);
            format!("simulated-gpu:{}", hex::encode(id))
        } else {
            "nvidia".to_owned()
        }
    }
}

impl Default for NvidiaRoots {
    fn default() -> Self {
        Self::nvidia()
    }
}

/// A constant above; a unit test shows that both decode.
fn point(text: &str) -> Point {
    let mut point = [0; 97];
    let _ = hex::decode_to_slice(text, &mut point);
    point
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_roots_are_points() {
        let roots = NvidiaRoots::nvidia();
        assert_eq!((roots.device[0], roots.rim[0]), (4, 4));
        assert_ne!(roots.device, roots.rim);
        assert!(!roots.is_simulated());
        assert_eq!(roots.anchor(), "nvidia");
    }
}
