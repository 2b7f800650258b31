//! A SIMULATED chain of AMD's form and the reports that its keys sign. It exists in tests only.
//!
//! The RSA keys beside this file were made for it and vouch for nothing; `ring` can use such keys but not make them.

use std::sync::LazyLock;

use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PSS_SHA384, RsaKeyPair,
    },
};

use crate::snp::{
    Product, Roots, SigningKey, SnpCollateral, Tcb,
    report::{REPORT_BYTES, SIGNED_BYTES},
    roots::key_digest,
};

const AMD: [u8; 8] = [0x2b, 0x06, 0x01, 0x04, 0x01, 0x9c, 0x78, 0x01];
pub(super) const LONG: (&str, &str) = ("200101000000Z", "450101000000Z");
pub(super) const CHIP: [u8; 64] = [0x5a; 64];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signer {
    Ark,
    Ask,
    /// Not of this chain.
    Other,
}

/// What the chain shall be; the default is a good one for Milan.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) product: Product,
    pub(super) kind: SigningKey,
    /// Overrides what names and extensions say.
    pub(super) ask_name: Option<String>,
    pub(super) leaf_issuer: Option<&'static str>,
    pub(super) leaf_product: Option<&'static str>,
    pub(super) tcb: Tcb,
    pub(super) chip_id: [u8; 64],
    pub(super) chip_id_wrapped: bool,
    pub(super) csp_id: &'static str,
    pub(super) ark_valid: (&'static str, &'static str),
    pub(super) ask_valid: (&'static str, &'static str),
    pub(super) leaf_valid: (&'static str, &'static str),
    pub(super) ask_signer: Signer,
    pub(super) leaf_signer: Signer,
    pub(super) ask_may_sign: bool,
    pub(super) leaf_serial: u8,
    pub(super) extra_leaf_extension: Option<Vec<u8>>,
    pub(super) crl: Option<CrlPlan>,
}

#[derive(Debug, Clone)]
pub(super) struct CrlPlan {
    pub(super) number: u8,
    pub(super) valid: (&'static str, &'static str),
    pub(super) revoked: Vec<u8>,
    pub(super) signer: Signer,
    pub(super) issuer: Option<&'static str>,
    pub(super) extra_extension: Option<Vec<u8>>,
}

pub(super) const ASK_SERIAL: u8 = 0x21;

impl Default for CrlPlan {
    fn default() -> Self {
        Self {
            number: 7,
            valid: ("260101000000Z", "270101000000Z"),
            revoked: vec![0x77],
            signer: Signer::Ark,
            issuer: None,
            extra_extension: None,
        }
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            product: Product::Milan,
            kind: SigningKey::Vcek,
            ask_name: None,
            leaf_issuer: None,
            leaf_product: None,
            tcb: Tcb { fmc: None, boot_loader: 4, tee: 0, snp: 23, microcode: 213 },
            chip_id: CHIP,
            chip_id_wrapped: false,
            csp_id: "simulated-cloud",
            ark_valid: LONG,
            ask_valid: LONG,
            leaf_valid: LONG,
            ask_signer: Signer::Ark,
            leaf_signer: Signer::Ask,
            ask_may_sign: true,
            leaf_serial: 0,
            extra_leaf_extension: None,
            crl: Some(CrlPlan::default()),
        }
    }
}

struct Keys {
    ark: RsaKeyPair,
    ask: RsaKeyPair,
    other: RsaKeyPair,
    leaf: EcdsaKeyPair,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let rsa = |der: &[u8]| RsaKeyPair::from_pkcs8(der).expect("an RSA key");
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P384_SHA384_FIXED_SIGNING;
    let leaf = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("random numbers");
    Keys {
        ark: rsa(include_bytes!("simulated-ark.pk8")),
        ask: rsa(include_bytes!("simulated-ask.pk8")),
        other: rsa(include_bytes!("simulated-other.pk8")),
        leaf: EcdsaKeyPair::from_pkcs8(algorithm, leaf.as_ref(), &random).expect("a P-384 key"),
    }
});

fn rsa(signer: Signer) -> &'static RsaKeyPair {
    match signer {
        Signer::Ark => &KEYS.ark,
        Signer::Ask => &KEYS.ask,
        Signer::Other => &KEYS.other,
    }
}

impl Plan {
    pub(super) fn roots(&self) -> Roots {
        Roots::with_simulated(self.product, key_digest(&rsa_public_key(&KEYS.ark)))
    }

    pub(super) fn collateral(&self) -> SnpCollateral {
        let product = self.product.as_str();
        let ark_name = name(&format!("ARK-{product}"));
        let (above, leaf) = match self.kind {
            SigningKey::Vcek => (format!("SEV-{product}"), "SEV-VCEK"),
            SigningKey::Vlek => (format!("SEV-VLEK-{product}"), "SEV-VLEK"),
        };
        let ask_name = name(self.ask_name.as_ref().unwrap_or(&above));
        let authority = |may_sign: bool| {
            let usage: &[u8] = if may_sign { &[3, 2, 1, 6] } else { &[3, 2, 1, 2] };
            [
                extension(&[0x55, 0x1d, 19], true, &tlv(0x30, &[1, 1, 0xff])),
                extension(&[0x55, 0x1d, 15], true, usage),
            ]
            .concat()
        };
        let ark = certificate(
            0x20,
            (&ark_name, &ark_name),
            self.ark_valid,
            &rsa_public_key(&KEYS.ark),
            &authority(true),
            Signer::Ark,
        );
        let ask = certificate(
            ASK_SERIAL,
            (&ark_name, &ask_name),
            self.ask_valid,
            &rsa_public_key(&KEYS.ask),
            &authority(self.ask_may_sign),
            self.ask_signer,
        );
        let vek = certificate(
            self.leaf_serial,
            (&self.leaf_issuer.map_or(ask_name, name), &name(leaf)),
            self.leaf_valid,
            &leaf_public_key(),
            &self.leaf_extensions(),
            self.leaf_signer,
        );
        let crl = self.crl.as_ref().map(|plan| crl(plan, &ark_name).into());
        SnpCollateral { version: 1, ark: ark.into(), ask: ask.into(), vek: vek.into(), crl }
    }

    fn leaf_extensions(&self) -> Vec<u8> {
        let amd = |arcs: &[u8], value: &[u8]| extension(&[&AMD, arcs].concat(), false, value);
        let text = |value: &str| tlv(0x16, value.as_bytes());
        let stepped = format!("{}-B0", self.product);
        let mut all = vec![
            amd(&[1], &integer(0)),
            amd(&[2], &text(self.leaf_product.unwrap_or(&stepped))),
            amd(&[3, 1], &integer(self.tcb.boot_loader)),
            amd(&[3, 2], &integer(self.tcb.tee)),
            amd(&[3, 4], &integer(0)),
            amd(&[3, 3], &integer(self.tcb.snp)),
            amd(&[3, 8], &integer(self.tcb.microcode)),
        ];
        all.extend(self.tcb.fmc.map(|fmc| amd(&[3, 9], &integer(fmc))));
        match self.kind {
            SigningKey::Vcek => {
                let id = &self.chip_id[..self.product.chip_id_bytes()];
                let value = if self.chip_id_wrapped { tlv(4, id) } else { id.to_vec() };
                all.push(amd(&[4], &value));
            }
            SigningKey::Vlek => all.push(amd(&[5], &text(self.csp_id))),
        }
        all.extend(self.extra_leaf_extension.clone());
        all.concat()
    }
}

/// Puts a signature of the leaf's key under whatever the first 672 bytes say.
pub(super) fn sign_report(report: &mut [u8]) {
    assert_eq!(report.len(), REPORT_BYTES);
    let signature = KEYS.leaf.sign(&SystemRandom::new(), &report[..SIGNED_BYTES]).expect("signs");
    let (r, s) = signature.as_ref().split_at(48);
    for (at, number) in [(SIGNED_BYTES, r), (SIGNED_BYTES + 72, s)] {
        let mut number = number.to_vec();
        number.reverse();
        report[at..at + 48].copy_from_slice(&number);
    }
}

pub(super) fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let flag: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    tlv(0x30, &[&tlv(6, oid), flag, &tlv(4, value)].concat())
}

pub(super) fn integer(number: u8) -> Vec<u8> {
    if number < 0x80 { tlv(2, &[number]) } else { tlv(2, &[0, number]) }
}

fn certificate(
    serial: u8,
    (issuer, subject): (&[u8], &[u8]),
    valid: (&str, &str),
    public_key: &[u8],
    extensions: &[u8],
    signer: Signer,
) -> Vec<u8> {
    let signed = [
        &tlv(0xa0, &integer(2)),
        &integer(serial),
        &pss(),
        issuer,
        &tlv(0x30, &[time(valid.0), time(valid.1)].concat()),
        subject,
        public_key,
        &tlv(0xa3, &tlv(0x30, extensions)),
    ]
    .concat();
    signed_by(signer, &tlv(0x30, &signed))
}

fn crl(plan: &CrlPlan, issuer: &[u8]) -> Vec<u8> {
    let issuer = plan.issuer.map_or(issuer.to_vec(), name);
    let entries: Vec<u8> = plan
        .revoked
        .iter()
        .flat_map(|serial| tlv(0x30, &[integer(*serial), time(plan.valid.0)].concat()))
        .collect();
    let entries = if entries.is_empty() { vec![] } else { tlv(0x30, &entries) };
    let number = extension(&[0x55, 0x1d, 20], false, &integer(plan.number));
    let extensions = [number, plan.extra_extension.clone().unwrap_or_default()].concat();
    let signed = [
        integer(1),
        pss(),
        issuer,
        time(plan.valid.0),
        time(plan.valid.1),
        entries,
        tlv(0xa0, &tlv(0x30, &extensions)),
    ]
    .concat();
    signed_by(plan.signer, &tlv(0x30, &signed))
}

fn signed_by(signer: Signer, signed: &[u8]) -> Vec<u8> {
    let key = rsa(signer);
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PSS_SHA384, &SystemRandom::new(), signed, &mut signature).expect("signs");
    tlv(0x30, &[signed, &pss(), &bit_string(&signature)].concat())
}

/// RSASSA-PSS with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes.
fn pss() -> Vec<u8> {
    let hash_oid = tlv(6, &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02]);
    let hash = tlv(0x30, &[&hash_oid, &[5, 0][..]].concat());
    let mgf1 = tlv(6, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08]);
    let parameters = [
        tlv(0xa0, &hash),
        tlv(0xa1, &tlv(0x30, &[mgf1, hash.clone()].concat())),
        tlv(0xa2, &integer(48)),
    ]
    .concat();
    let oid = tlv(6, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a]);
    tlv(0x30, &[oid, tlv(0x30, &parameters)].concat())
}

fn rsa_public_key(key: &RsaKeyPair) -> Vec<u8> {
    let oid = tlv(6, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01]);
    let algorithm = tlv(0x30, &[&oid, &[5, 0][..]].concat());
    tlv(0x30, &[algorithm, bit_string(key.public().as_ref())].concat())
}

fn leaf_public_key() -> Vec<u8> {
    let kind = tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01]);
    let curve = tlv(6, &[0x2b, 0x81, 0x04, 0x00, 0x22]);
    let algorithm = tlv(0x30, &[kind, curve].concat());
    tlv(0x30, &[algorithm, bit_string(KEYS.leaf.public_key().as_ref())].concat())
}

fn name(common: &str) -> Vec<u8> {
    let part = |arc: u8, text: &str| {
        let pair = [tlv(6, &[0x55, 4, arc]), tlv(0x0c, text.as_bytes())].concat();
        tlv(0x31, &tlv(0x30, &pair))
    };
    tlv(0x30, &[part(10, "SIMULATED - NOT AMD"), part(3, common)].concat())
}

fn time(text: &str) -> Vec<u8> {
    tlv(0x17, text.as_bytes())
}

fn bit_string(bytes: &[u8]) -> Vec<u8> {
    tlv(3, &[&[0], bytes].concat())
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut bytes = vec![tag];
    match length {
        0..=0x7f => bytes.push(length as u8),
        0x80..=0xff => bytes.extend([0x81, length as u8]),
        _ => bytes.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    bytes.extend(content);
    bytes
}
