use std::collections::BTreeMap;

use sealtune_content::ContentId;
use sealtune_evidence::launch::HashAlgorithm;
use sealtune_evidence::{FixedHex, HexBytes, Layer, Role, Shape};
use sealtune_job::{
    DatasetInput, Disclosure, Hex, ImageReference, InputFormat, Limits, ModelInput, Recipient,
    Script, TERMS_VERSION,
};
use sealtune_seal::OwnerKey;
use sealtune_seal::release::{seal_release, sign_specification};

use super::*;

const OFFER: [u8; 32] = [3; 32];
const IMAGE: [u8; 32] = [0xab; 32];

pub(crate) fn job() -> JobId {
    JobId::from_bytes([1; 16])
}

fn configuration() -> LaunchConfiguration {
    LaunchConfiguration {
        version: 1,
        release: "0.1.0".into(),
        role: Role::Worker,
        vm_mode: VmMode::PerJob,
        shape: Shape { vcpus: 2, memory_mib: 2048 },
        gpus: vec![],
        layers: vec![Layer {
            name: "training".into(),
            root: FixedHex(IMAGE),
            data_blocks: 1,
            hash_offset: 4096,
            data_block_size: 4096,
            hash_block_size: 4096,
            hash_algorithm: HashAlgorithm::Sha256,
            salt: HexBytes(vec![]),
        }],
        devices: vec![],
        settlement: None,
        token_hash: FixedHex([9; 32]),
    }
}

fn terms(owner: &OwnerKey) -> JobTerms {
    let public = owner.public();
    let content = ContentId::Sha256 { digest: [4; 32], length: 10 };
    JobTerms {
        version: TERMS_VERSION,
        job: job(),
        attempt: 1,
        owner: Hex(*public.signing.as_bytes()),
        recipient: Recipient {
            suite: public.recipient.suite().to_string(),
            key: public.recipient.to_hex(),
        },
        model: ModelInput { id: content, format: InputFormat::File },
        dataset: DatasetInput { id: content, format: InputFormat::File, sealed: Some(content) },
        image: ImageReference { verity_root: Hex(IMAGE) },
        script: Script::Inline { name: "train.py".into(), text: "pass".into() },
        parameters: "{}".into(),
        environment: BTreeMap::new(),
        limits: Limits::default(),
        disclosure: Disclosure::Owner,
        nonce: Hex([8; 32]),
        time: 1,
        offer: Some(Hex(OFFER)),
    }
}

/// A release as the owner makes it, and everything that the host could change about it.
struct Case {
    owner: OwnerKey,
    signer: OwnerKey,
    vm: RecipientKeyPair,
    terms: JobTerms,
    /// What the owner sealed to.
    sealed_to: [u8; 32],
    offers: Vec<[u8; 32]>,
    configuration: LaunchConfiguration,
    job: JobId,
    attempt: u32,
    /// Signed bytes, where they are not those that travel.
    signed: Option<Vec<u8>>,
    travels: fn(&mut v1::SealedRelease),
}

impl Case {
    fn good() -> Self {
        let key = "11".repeat(32);
        let owner = OwnerKey::from_signing_key_hex(&key, Suite::X25519).unwrap();
        let signer = OwnerKey::from_signing_key_hex(&key, Suite::X25519).unwrap();
        Self {
            terms: terms(&owner),
            owner,
            signer,
            vm: RecipientKeyPair::generate(Suite::XWing).unwrap(),
            sealed_to: OFFER,
            offers: vec![[7; 32], OFFER],
            configuration: configuration(),
            job: job(),
            attempt: 1,
            signed: None,
            travels: |_| {},
        }
    }

    fn open(&self) -> Result<AcceptedJob, JobError> {
        let specification = JobSpecification {
            terms: self.terms.clone(),
            data_key: Secret::new([5; 32]),
            commitment_key: Secret::new([6; 32]),
        };
        let bytes = specification.to_canonical().unwrap();
        let signed = self.signed.as_deref().unwrap_or(bytes.expose());
        let signature = sign_specification(&self.signer, signed).unwrap();
        let sealed =
            seal_release(bytes.expose(), &signature, &self.sealed_to, self.vm.public()).unwrap();
        let mut travelling = v1::SealedRelease {
            suite: sealed.suite.to_string(),
            enc: STANDARD.encode(&sealed.enc),
            ciphertext: STANDARD.encode(&sealed.ciphertext),
        };
        (self.travels)(&mut travelling);
        open(self.job, self.attempt, &travelling, &self.vm, &self.offers, &self.configuration)
    }
}

fn flip(text: &mut String) {
    let mut bytes = STANDARD.decode(&*text).unwrap();
    bytes[40] ^= 1;
    *text = STANDARD.encode(bytes);
}

#[test]
fn an_honest_release_opens() {
    let case = Case::good();
    let accepted = case.open().unwrap();
    assert_eq!(accepted.terms, case.terms);
    let Secrecy::Sealed(sealed) = accepted.secrecy else { panic!("not sealed") };
    assert_eq!(sealed.offer, OFFER);
    assert_eq!(sealed.data_key.expose(), &[5; 32]);
    assert_eq!(sealed.recipient, case.owner.public().recipient);
}

/// A lying supervisor replaces each field in turn; each gives a code of its own and nothing is opened.
#[test]
fn whatever_is_replaced_has_its_own_code() {
    let stranger = || OwnerKey::from_signing_key_hex(&"22".repeat(32), Suite::X25519).unwrap();
    let cases: Vec<(&str, Case, &str)> = vec![
        ("another job", Case { job: JobId::from_bytes([2; 16]), ..Case::good() }, "ST-AGENT-76"),
        ("another attempt", Case { attempt: 2, ..Case::good() }, "ST-AGENT-77"),
        ("an offer of another VM", Case { sealed_to: [9; 32], ..Case::good() }, "ST-AGENT-75"),
        ("an offer that is too old", Case { offers: vec![[7; 32]], ..Case::good() }, "ST-AGENT-75"),
        ("no offer at all", Case { offers: vec![], ..Case::good() }, "ST-AGENT-75"),
        (
            "a specification for another offer",
            {
                let mut case = Case::good();
                case.terms.offer = Some(Hex([7; 32]));
                case
            },
            "ST-AGENT-78",
        ),
        (
            "the specification's bytes",
            Case { signed: Some(b"other bytes".to_vec()), ..Case::good() },
            "ST-SEAL-23",
        ),
        ("the signer", Case { signer: stranger(), ..Case::good() }, "ST-SEAL-23"),
        (
            "the owner",
            {
                let mut case = Case::good();
                case.terms.owner = Hex(*stranger().public().signing.as_bytes());
                case
            },
            "ST-SEAL-23",
        ),
        (
            "the image",
            {
                let mut case = Case::good();
                case.terms.image.verity_root = Hex([0xcd; 32]);
                case
            },
            "ST-AGENT-79",
        ),
        (
            "the layers",
            {
                let mut case = Case::good();
                case.configuration.layers[0].root = FixedHex([0xcd; 32]);
                case
            },
            "ST-AGENT-79",
        ),
        (
            "more memory than there is",
            {
                let mut case = Case::good();
                case.terms.limits.memory_mib = 2048;
                case
            },
            "ST-AGENT-80",
        ),
        (
            "a shared VM",
            {
                let mut case = Case::good();
                case.configuration.vm_mode = VmMode::Shared;
                case
            },
            "ST-AGENT-81",
        ),
        (
            "a ciphertext bit",
            Case { travels: |sealed| flip(&mut sealed.ciphertext), ..Case::good() },
            "ST-AGENT-75",
        ),
        (
            "a bit of the encapsulated key",
            Case { travels: |sealed| flip(&mut sealed.enc), ..Case::good() },
            "ST-AGENT-75",
        ),
        (
            "the suite",
            Case { travels: |sealed| sealed.suite = "x25519".into(), ..Case::good() },
            "ST-SEAL-41",
        ),
        (
            "an unknown suite",
            Case { travels: |sealed| sealed.suite = "rsa".into(), ..Case::good() },
            "ST-AGENT-74",
        ),
        (
            "the encoding",
            Case { travels: |sealed| sealed.enc.push('!'), ..Case::good() },
            "ST-AGENT-74",
        ),
        (
            "a recipient key that is none",
            {
                let mut case = Case::good();
                case.terms.recipient.key = "00".into();
                case
            },
            "ST-JOB-06",
        ),
    ];
    for (what, case, expected) in cases {
        assert_eq!(case.open().unwrap_err().code(), expected, "{what}");
    }
}

#[test]
fn plain_terms_must_not_look_sealed() {
    let case = Case::good();
    let mut plain = case.terms;
    assert_eq!(accept_plain(plain.clone(), &case.configuration).unwrap_err().code(), "ST-AGENT-82");
    plain.offer = None;
    assert_eq!(accept_plain(plain.clone(), &case.configuration).unwrap_err().code(), "ST-AGENT-82");
    plain.dataset.sealed = None;
    let accepted = accept_plain(plain.clone(), &case.configuration).unwrap();
    assert!(matches!(accepted.secrecy, Secrecy::Plain));
    plain.attempt = 0;
    assert_eq!(accept_plain(plain, &case.configuration).unwrap_err().code(), "ST-JOB-02");
}
