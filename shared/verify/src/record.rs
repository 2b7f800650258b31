//! `sealtune-verify record`: a measurement recipe from evidence of a VM.

use sealtune_evidence::{
    Anchors, EvidenceBundle,
    bundle::MAX_BUNDLE_BYTES,
    collateral::AtHand,
    measure::{Recording, TdxImage, Witness, WitnessError, record_witness},
    policy::GpuRule,
};

use crate::{
    Report, Surroundings,
    cli::{CollateralSource, RecordCommand},
    failure::Failure,
    image::{self, Boot, MAX_BOOT_FILE_BYTES},
    input,
    online::Online,
};

pub(crate) fn run(
    command: &RecordCommand,
    json: bool,
    surroundings: &Surroundings<'_>,
) -> Result<Report, Failure> {
    let known = command.recipe.as_deref().map(image::recipe).transpose()?;
    let (_, reference) = image::reference(&command.image)?;
    let Boot { kernel, initrd } = Boot::read(&command.image, &reference)?;
    let firmware = input::read(&command.firmware, MAX_BOOT_FILE_BYTES)?;
    let bytes = input::judged(&command.file, MAX_BUNDLE_BYTES)?;
    let evidence = EvidenceBundle::parse(&bytes)
        .map_err(Failure::of(&command.file, |path, source| Failure::Evidence { path, source }))?;
    let anchors = Anchors::default();
    let collateral = match &command.collateral {
        None => None,
        Some(CollateralSource::File(path)) => Some(input::collateral(path)?),
        Some(CollateralSource::Fetch(update)) => {
            let http = surroundings.http.ok_or(Failure::NoClient)?;
            let services = command.services.services();
            let online = Online { http, services, update: *update };
            // A recording is of the VM's own boot; its GPUs are not judged.
            let gpu = GpuRule::Unverified;
            online.fetch(&[&evidence], AtHand::default(), &anchors, gpu)?.intel
        }
    };
    let witness = Witness {
        evidence: &evidence,
        collateral: collateral.as_ref(),
        anchors: &anchors,
        now: command.at.unwrap_or(surroundings.now),
    };
    let files = TdxImage {
        firmware: &firmware,
        kernel: &kernel,
        initrd: &initrd,
        cmdline: &reference.cmdline,
    };
    let recording = match (&known, &command.name) {
        (Some(recipe), _) => Recording::Into(recipe),
        (None, name) => Recording::New(name.as_deref().unwrap_or("recorded")),
    };
    let recipe = record_witness(&witness, files, recording).map_err(|error| match error {
        WitnessError::Measure(error) if error.file().is_some() => {
            image::unmeasured(error, &command.firmware, &command.image, &command.file)
        }
        error => Failure::Witness { path: command.file.clone(), source: Box::new(error) },
    })?;
    let stdout = if json {
        let mut text = serde_json::to_string_pretty(&recipe).map_err(Failure::Write)?;
        text.push('\n');
        text
    } else {
        recipe.to_toml().map_err(|source| Failure::Measure {
            path: command.file.clone(),
            source: Box::new(source),
        })?
    };
    Ok(Report { stdout, accepted: true })
}
