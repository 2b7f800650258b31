//! A device's measurements against the values in its RIMs: two of a GPU, one of a switch.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    codes::Code,
    opaque::Switch,
    rim::{Rim, RimKind},
    transcript::Measurement,
};

/// Measures firmware of the first video decoder, which some GPUs do not have.
const NVDEC0_INDEX: u8 = 35;

/// How far a comparison went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Compared {
    pub matched: usize,
    /// Measurement 35, without the decoder that it measures.
    pub skipped: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompareError {
    #[error("compare measurements: both RIMs give values for {0:?}")]
    Overlap(Vec<u8>),
    #[error("compare measurements: the report has none with index {0}")]
    Missing(u8),
    #[error("compare measurements: {} of {compared} are not the RIM's, the first of them {first} ({})", .others.len(), .kind.as_str())]
    Other { others: Vec<u8>, first: u8, kind: RimKind, compared: usize },
}

impl CompareError {
    pub fn entry(&self) -> Code {
        match self {
            Self::Overlap(_) => Code::RimOverlap,
            Self::Missing(_) => Code::MeasurementMissing,
            Self::Other { .. } => Code::MeasurementOther,
        }
    }
}

/// Holds every active index of a GPU's two RIMs against its report, where index `i` is block `i + 1`.
pub fn compare(
    measurements: &BTreeMap<u8, Measurement>,
    driver: &Rim,
    vbios: &Rim,
    nvdec0: Option<Switch>,
) -> Result<Compared, CompareError> {
    let rims = [(RimKind::Driver, driver), (RimKind::Vbios, vbios)];
    compare_all(measurements, &rims, nvdec0)
}

/// The same with any number of RIMs.
pub fn compare_all(
    measurements: &BTreeMap<u8, Measurement>,
    rims: &[(RimKind, &Rim)],
    nvdec0: Option<Switch>,
) -> Result<Compared, CompareError> {
    let mut listed = BTreeSet::new();
    let indices = rims.iter().flat_map(|(_, rim)| rim.golden.keys().copied());
    let overlap: Vec<u8> = indices.filter(|index| !listed.insert(*index)).collect();
    if !overlap.is_empty() {
        return Err(CompareError::Overlap(overlap));
    }
    let mut compared = Compared::default();
    let mut others = Vec::new();
    let total = listed.len();
    let rows = rims.iter().flat_map(|(kind, rim)| rim.golden.iter().map(|row| (*kind, row)));
    for (kind, (&index, values)) in rows {
        if index == NVDEC0_INDEX && nvdec0 == Some(Switch::Off) {
            compared.skipped += 1;
            continue;
        }
        let block = index.checked_add(1).ok_or(CompareError::Missing(index))?;
        let measured = measurements.get(&block).ok_or(CompareError::Missing(index))?;
        if values.contains(measured) {
            compared.matched += 1;
        } else {
            others.push((index, kind));
        }
    }
    match others.first() {
        None => Ok(compared),
        Some((first, kind)) => Err(CompareError::Other {
            first: *first,
            kind: *kind,
            others: others.iter().map(|(index, _)| *index).collect(),
            compared: total,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rim(rows: &[(u8, &[u8])]) -> Rim {
        let golden =
            rows.iter().map(|(index, all)| (*index, all.iter().map(|b| [*b; 48]).collect()));
        Rim { version: "1".into(), product: "GH100".into(), golden: golden.collect() }
    }

    fn report(rows: &[(u8, u8)]) -> BTreeMap<u8, Measurement> {
        rows.iter().map(|(block, byte)| (*block, [*byte; 48])).collect()
    }

    #[test]
    fn every_active_index_must_have_one_of_its_values() {
        let (driver, vbios) = (rim(&[(0, &[1, 2]), (2, &[3])]), rim(&[(1, &[4])]));
        let run = |rows: &[(u8, u8)]| compare(&report(rows), &driver, &vbios, None);
        let good = Compared { matched: 3, skipped: 0 };
        assert_eq!(run(&[(1, 1), (2, 4), (3, 3)]), Ok(good.clone()));
        assert_eq!(run(&[(1, 2), (2, 4), (3, 3), (9, 9)]), Ok(good));
        let other = run(&[(1, 3), (2, 4), (3, 9)]).expect_err("two differ");
        assert!(
            matches!(&other, CompareError::Other { others, first: 0, compared: 3, .. } if *others == [0, 2])
        );
        assert_eq!(other.entry(), Code::MeasurementOther);
        assert_eq!(run(&[(1, 1), (2, 4)]), Err(CompareError::Missing(2)));
    }

    #[test]
    fn overlapping_rims_are_an_error() {
        let error = compare(&report(&[(1, 1)]), &rim(&[(0, &[1])]), &rim(&[(0, &[1])]), None);
        assert_eq!(error, Err(CompareError::Overlap(vec![0])));
        assert_eq!(error.expect_err("overlap").entry(), Code::RimOverlap);
    }

    #[test]
    fn index_35_is_skipped_only_when_the_decoder_is_off() {
        let (driver, vbios) = (rim(&[(35, &[1])]), rim(&[(1, &[4])]));
        let measured = report(&[(36, 9), (2, 4)]);
        let run = |nvdec0| compare(&measured, &driver, &vbios, nvdec0);
        assert_eq!(run(Some(Switch::Off)), Ok(Compared { matched: 1, skipped: 1 }));
        assert!(matches!(run(Some(Switch::On)), Err(CompareError::Other { first: 35, .. })));
        assert!(matches!(run(None), Err(CompareError::Other { first: 35, .. })));
        let right = report(&[(36, 1), (2, 4)]);
        assert_eq!(compare(&right, &driver, &vbios, None), Ok(Compared { matched: 2, skipped: 0 }));
    }
}
