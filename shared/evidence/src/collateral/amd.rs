//! Asking AMD's key service (KDS) for what verifies an SNP report: the chip's certificate, its chain, and the list of
//! revoked keys.
//!
//! A VLEK's certificate is given to its cloud provider alone: it is the sender's to bring, and chain and list are asked for.

use super::{
    Answer, CollateralError, ServiceBase,
    inquiry::{Ask, Inquiry, Next},
};
use crate::snp::{
    Addresses, Product, Report, Roots, SigningKey, SnpCollateral,
    certificates::MAX_CERTIFICATE_BYTES, revocation::MAX_CRL_BYTES,
};

#[derive(Debug)]
pub struct SnpInquiry {
    addresses: Addresses,
    /// In the order of the document: VCEK or VLEK, chain, list.
    parts: Vec<Vec<u8>>,
}

impl SnpInquiry {
    /// `sent` is what came with the report. It decides what to ask for and nothing else, except that a VLEK's certificate is
    /// taken from it: whoever brings that, AMD signed it.
    pub fn new(
        base: &ServiceBase,
        report: &[u8],
        sent: Option<&SnpCollateral>,
        roots: &Roots,
    ) -> Result<Self, CollateralError> {
        let report =
            Report::parse(report).map_err(|error| CollateralError::Subject(error.to_string()))?;
        let said = report.cpu.and_then(Product::of_cpu);
        let product = said
            .or_else(|| sent.and_then(|sent| sent.product(roots)))
            .ok_or(CollateralError::Product)?;
        let addresses = Addresses::at(base.as_str(), &report, product)
            .map_err(|error| CollateralError::Amd(error.to_string()))?;
        let parts = match (report.signing_key, sent) {
            (SigningKey::Vcek, _) => vec![],
            (SigningKey::Vlek, Some(sent)) => vec![sent.vek.0.clone()],
            (SigningKey::Vlek, None) => return Err(CollateralError::Vlek),
        };
        Ok(Self { addresses, parts })
    }
}

impl Inquiry for SnpInquiry {
    type Document = SnpCollateral;

    fn go_on(&mut self, answer: Option<Answer>) -> Result<Next<SnpCollateral>, CollateralError> {
        self.parts.extend(answer.map(|answer| answer.body));
        let Addresses { chain, crl, vcek } = &self.addresses;
        let ask = |url: &str, most| Ok(Next::Ask(Ask::get(url.to_owned(), most)));
        match (self.parts.as_slice(), vcek) {
            ([], Some(vcek)) => ask(vcek, MAX_CERTIFICATE_BYTES),
            ([_], _) => ask(chain, 4 * MAX_CERTIFICATE_BYTES),
            ([_, _], _) => ask(crl, MAX_CRL_BYTES),
            ([vek, chain, crl, ..], _) => {
                let document = SnpCollateral::from_service(chain, vek, Some(crl));
                let refuse =
                    |reason| CollateralError::Answer { part: "AMD's certificates", reason };
                // An error page is not DER.
                if vek.first() != Some(&0x30) || crl.first() != Some(&0x30) {
                    return Err(refuse("not DER".to_owned()));
                }
                document.map(Next::Done).map_err(|error| refuse(error.to_string()))
            }
            ([], None) => Err(CollateralError::Vlek),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{collateral::Code, snp::report::REPORT_BYTES};

    /// Unsigned: only what decides which certificate is asked for.
    fn report(version: u32, key_info: u32) -> Vec<u8> {
        let mut bytes = vec![0; REPORT_BYTES];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &version.to_le_bytes());
        put(8, &(1_u64 << 17).to_le_bytes());
        put(0x34, &1_u32.to_le_bytes());
        put(0x48, &key_info.to_le_bytes());
        put(0x180, &[3, 0, 0, 0, 0, 0, 8, 115]);
        if version > 2 {
            put(0x188, &[0x19, 1, 1]);
        }
        put(0x1a0, &[0xab; 64]);
        bytes
    }

    fn base() -> ServiceBase {
        ServiceBase::parse("http://127.0.0.1:4000").expect("an address")
    }

    fn new(report: &[u8], sent: Option<&SnpCollateral>) -> Result<SnpInquiry, CollateralError> {
        SnpInquiry::new(&base(), report, sent, &Roots::amd())
    }

    fn answered(body: &[u8]) -> Option<Answer> {
        Some(Answer { headers: vec![], body: body.to_vec() })
    }

    const PEM: &[u8] = b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n\
                         -----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

    #[test]
    fn three_questions_about_a_chip() {
        let mut inquiry = new(&report(3, 0), None).expect("a report");
        let url = |next| match next {
            Next::Ask(ask) => ask.url,
            Next::Done(_) => "done".to_owned(),
        };
        let place = "http://127.0.0.1:4000/vcek/v1/Milan";
        let vcek = url(inquiry.go_on(None).expect("asks"));
        let query = "blSPL=03&teeSPL=00&snpSPL=08&ucodeSPL=115";
        assert_eq!(vcek, format!("{place}/{}?{query}", "ab".repeat(64)));
        let chain = url(inquiry.go_on(answered(b"\x30v")).expect("asks"));
        assert_eq!(chain, format!("{place}/cert_chain"));
        let crl = url(inquiry.go_on(answered(PEM)).expect("asks"));
        assert_eq!(crl, format!("{place}/crl"));
        let Ok(Next::Done(document)) = inquiry.go_on(answered(b"\x30l")) else {
            panic!("there is no fourth question");
        };
        assert_eq!(
            (document.vek.0, document.crl.map(|crl| crl.0)),
            (b"\x30v".to_vec(), Some(b"\x30l".to_vec()))
        );
        // What the service says is looked at before it is used.
        let ends = |answers: [&[u8]; 3]| {
            let mut inquiry = new(&report(3, 0), None).expect("a report");
            inquiry.go_on(None).expect("asks");
            answers.iter().find_map(|body| inquiry.go_on(answered(body)).err())
        };
        for answers in [
            [&b"<html>"[..], PEM, b"\x30l"],
            [b"\x30v", b"<html>", b"\x30l"],
            [b"\x30v", PEM, b"<html>"],
            [&[0x30; MAX_CERTIFICATE_BYTES + 1], PEM, b"\x30l"],
        ] {
            assert_eq!(ends(answers).expect("refused").entry(), Code::Answer);
        }
    }

    #[test]
    fn a_report_that_does_not_say_enough_is_told_so() {
        let code = |bytes: &[u8]| new(bytes, None).expect_err("refused").entry();
        assert_eq!(code(&report(2, 0)), Code::Product);
        assert_eq!(code(&report(3, 2)), Code::Amd, "its chip is masked");
        assert_eq!(code(&report(3, 1 << 2)), Code::Vlek);
        assert_eq!(code(&[]), Code::Subject);
        let mut unknown = report(3, 0);
        unknown[0x188] = 0x17;
        assert_eq!(code(&unknown), Code::Product);
    }

    #[test]
    fn a_vlek_is_the_senders_to_bring() {
        let part = |byte: u8| vec![0x30, byte].into();
        let sent =
            SnpCollateral { version: 1, ark: part(1), ask: part(2), vek: part(3), crl: None };
        let mut inquiry = new(&report(3, 1 << 2), Some(&sent)).expect("a report");
        let Ok(Next::Ask(ask)) = inquiry.go_on(None) else { panic!("asks for the chain") };
        assert_eq!(ask.url, "http://127.0.0.1:4000/vlek/v1/Milan/cert_chain");
        inquiry.go_on(answered(PEM)).expect("asks for the list");
        let Ok(Next::Done(document)) = inquiry.go_on(answered(b"\x30l")) else { panic!("done") };
        assert_eq!((document.vek.0, document.ark.0), (vec![0x30, 3], vec![0x30, 0]));
    }
}
