//! Collateral of the development PKI: one TCB level, one module, all up to date.

use serde_json::{Value, json};

use super::{
    SimulatedError,
    pki::{CPU_SVN, FMSPC, PCE_SVN, Pki},
    quote::{MODULE_SVN, QE_ISV_PROD_ID, QE_ISV_SVN, QE_MRSIGNER, TEE_TCB_SVN},
};
use crate::{collateral::Collateral, fixed_hex::HexBytes};

/// As long as Intel's.
pub(super) const VALIDITY: u64 = 30 * 24 * 3600;
const EVALUATION_NUMBER: u32 = 1;
const TCB_DATE: &str = "2026-01-01T00:00:00Z";

/// Changes what is signed, before it is.
pub(super) type Edit<'a> = &'a dyn Fn(&mut Value);

/// `edits` are of the TCB info and of the quoting enclave's identity.
pub(super) fn make(
    pki: &Pki,
    now: u64,
    edits: [Edit<'_>; 2],
) -> Result<Collateral, SimulatedError> {
    let issued = rfc3339(now)?;
    let next = rfc3339(now.saturating_add(VALIDITY))?;
    let zero_signer = "0".repeat(96);
    let none = "0".repeat(16);
    let all = "F".repeat(16);
    let svns = |svns: [u8; 16]| svns.map(|svn| json!({ "svn": svn })).to_vec();

    let mut tcb_info = json!({
        "id": "TDX",
        "version": 3,
        "issueDate": issued,
        "nextUpdate": next,
        "fmspc": hex::encode_upper(FMSPC),
        "pceId": "0000",
        "tcbType": 0,
        "tcbEvaluationDataNumber": EVALUATION_NUMBER,
        "tdxModule": { "mrsigner": zero_signer, "attributes": none, "attributesMask": all },
        "tdxModuleIdentities": [{
            "id": format!("TDX_{:02X}", TEE_TCB_SVN[1]),
            "mrsigner": zero_signer,
            "attributes": none,
            "attributesMask": all,
            "tcbLevels": [
                { "tcb": { "isvsvn": MODULE_SVN }, "tcbDate": TCB_DATE, "tcbStatus": "UpToDate" },
                {
                    "tcb": { "isvsvn": MODULE_SVN - 1 },
                    "tcbDate": "2025-01-01T00:00:00Z",
                    "tcbStatus": "OutOfDate",
                    "advisoryIDs": ["SIMULATED-SA-00001"],
                },
            ],
        }],
        "tcbLevels": [{
            "tcb": {
                "sgxtcbcomponents": svns(CPU_SVN),
                "pcesvn": PCE_SVN,
                "tdxtcbcomponents": svns(TEE_TCB_SVN),
            },
            "tcbDate": TCB_DATE,
            "tcbStatus": "UpToDate",
        }],
    });

    let mut qe_identity = json!({
        "id": "TD_QE",
        "version": 2,
        "issueDate": issued,
        "nextUpdate": next,
        "tcbEvaluationDataNumber": EVALUATION_NUMBER,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": hex::encode_upper(QE_MRSIGNER),
        "isvprodid": QE_ISV_PROD_ID,
        "tcbLevels": [
            { "tcb": { "isvsvn": QE_ISV_SVN }, "tcbDate": TCB_DATE, "tcbStatus": "UpToDate" },
        ],
    });

    let [edit_tcb_info, edit_qe_identity] = edits;
    edit_tcb_info(&mut tcb_info);
    edit_qe_identity(&mut qe_identity);
    let (tcb_info, qe_identity) = (tcb_info.to_string(), qe_identity.to_string());
    let (root_ca_crl, pck_crl) = pki.revocation_lists(now)?;
    let tcb_chain = format!("{}{}", pki.tcb_signing.pem(), pki.root.pem());
    Ok(Collateral {
        pck_crl_issuer_chain: format!("{}{}", pki.pck_ca.pem(), pki.root.pem()),
        root_ca_crl: HexBytes(root_ca_crl),
        pck_crl: HexBytes(pck_crl),
        tcb_info_issuer_chain: tcb_chain.clone(),
        tcb_info_signature: HexBytes(pki.tcb_key.sign_raw(tcb_info.as_bytes()).to_vec()),
        tcb_info,
        qe_identity_issuer_chain: tcb_chain,
        qe_identity_signature: HexBytes(pki.tcb_key.sign_raw(qe_identity.as_bytes()).to_vec()),
        qe_identity,
        pck_certificate_chain: None,
    })
}

/// `YYYY-MM-DDThh:mm:ssZ`, without a fraction.
fn rfc3339(seconds: u64) -> Result<String, SimulatedError> {
    crate::time::rfc3339(seconds).ok_or(SimulatedError::Date(seconds))
}
