//! Makes a recipe from a real boot: the log of a TDX machine in, data out.
//!
//! Nothing is taken from a log that does not replay to its quote, which the caller has verified. What this program can
//! compute is found in the log by its digest; the host's tables are recognised by what firmware writes beside them.

use super::{
    compare::{Strictness, compare},
    error::MeasureError,
    hob::AcceptedMemory,
    image::{MachineShape, TdxImage, expected_events},
    mrtd::{PageOrder, mrtd},
    recipe::{DigestSource, KernelForm, RECIPE_VERSION, Recipe, RecipeEvent, RecordedTables},
    rtmr0::configuration_volume_digest,
    rtmr1::kernel_digest,
    rtmr2::{CommandLineForm, command_line_digest, initramfs_digest},
    tdvf::Tdvf,
};
use crate::{
    fixed_hex::Hex48,
    layout1::BootRegisters,
    logs::{EventType, LoggedEvent, Register, replay::replay},
};

/// EV_EFI_HANDOFF_TABLES: what firmware uses for SMBIOS.
const HANDOFF_TABLES: EventType = EventType::Other(0x8000_0009);
/// Beside the digest of each ACPI blob.
const ACPI_DATA: &[u8] = b"ACPI DATA";
const ACPI_ORDER: [DigestSource; 3] =
    [DigestSource::AcpiLoader, DigestSource::AcpiRsdp, DigestSource::AcpiTables];

/// One boot of known files on a real machine.
#[derive(Debug, Clone, Copy)]
pub struct RecordedBoot<'a> {
    pub image: TdxImage<'a>,
    pub shape: MachineShape,
    /// Of a quote of this boot that was verified.
    pub registers: BootRegisters,
    pub log: &'a [LoggedEvent],
}

/// A recipe of this boot, with its shape as the only recording.
pub fn record(name: &str, source: &str, boot: &RecordedBoot<'_>) -> Result<Recipe, MeasureError> {
    boot.check_replay()?;
    let tdvf = Tdvf::parse(boot.image.firmware)?;
    let memory = AcceptedMemory::of(&tdvf)?;
    let known = boot.known_digests(&tdvf, &memory)?;
    let mut tables = Vec::new();
    let mut events = Vec::new();
    for (number, event) in boot.events().enumerate() {
        let digest = boot.source_of(event, &known, &tables);
        if !known.iter().any(|(source, _)| *source == digest) && digest != DigestSource::Fixed {
            tables.push((digest, event.digest));
        }
        events.push(RecipeEvent {
            register: event.register.rtmr().and_then(|at| u32::try_from(at).ok()).unwrap_or(3),
            event_type: event.event_type.into(),
            name: event_name(number, digest, event),
            digest,
            value: (digest == DigestSource::Fixed).then_some(event.digest),
        });
    }
    let recipe = Recipe {
        version: RECIPE_VERSION,
        name: name.to_owned(),
        source: source.to_owned(),
        mrtd: boot.registers.mrtd,
        page_order: boot.page_order(&tdvf)?,
        kernel: boot.kernel_form()?,
        command_line: boot.command_line_form()?,
        memory,
        recorded: vec![recorded(boot.shape, &tables)?],
        events,
    };
    for (source, _) in known {
        if !recipe.events.iter().any(|event| event.digest == source) {
            return Err(MeasureError::BootLacks(source));
        }
    }
    recipe.check()?;
    boot.check_against(&recipe)?;
    Ok(recipe)
}

/// `recipe` with the tables of another shape. Everything but these must be as the recipe says.
pub fn record_shape(recipe: &Recipe, boot: &RecordedBoot<'_>) -> Result<Recipe, MeasureError> {
    boot.check_replay()?;
    let mut tables = Vec::new();
    for register in [Register::Rtmr0, Register::Rtmr1, Register::Rtmr2] {
        let planned = recipe.events.iter().filter(|event| event.register() == register);
        let logged = boot.events().filter(|event| event.register == register);
        tables.extend(planned.zip(logged).map(|(planned, event)| (planned.digest, event.digest)));
    }
    let mut recipe = recipe.clone();
    recipe.recorded.retain(|recorded| recorded.shape != boot.shape);
    recipe.recorded.push(recorded(boot.shape, &tables)?);
    recipe.check()?;
    boot.check_against(&recipe)?;
    Ok(recipe)
}

impl<'a> RecordedBoot<'a> {
    fn check_replay(&self) -> Result<(), MeasureError> {
        let [rtmr0, rtmr1, rtmr2, _] = replay(self.log);
        let quoted = [self.registers.rtmr0, self.registers.rtmr1, self.registers.rtmr2];
        match [rtmr0, rtmr1, rtmr2].iter().zip(quoted).position(|(one, other)| *one != other) {
            None => Ok(()),
            Some(register) => Err(MeasureError::BootReplay(register)),
        }
    }

    fn events(&self) -> impl Iterator<Item = &'a LoggedEvent> {
        self.log.iter().filter(|event| matches!(event.extended_into(), Some(0..=2)))
    }

    fn known_digests(
        &self,
        tdvf: &Tdvf,
        memory: &AcceptedMemory,
    ) -> Result<Vec<(DigestSource, Hex48)>, MeasureError> {
        let image = &self.image;
        let (kernel, command_line) = (self.kernel_form()?, self.command_line_form()?);
        Ok(vec![
            (DigestSource::TdHob, memory.digest(self.shape.memory_bytes()?)?),
            (DigestSource::VariableStore, configuration_volume_digest(image.firmware, tdvf)?),
            (DigestSource::Kernel, self.kernel(kernel)?),
            (DigestSource::CommandLine, command_line_digest(image.cmdline, command_line)?),
            (DigestSource::Initramfs, initramfs_digest(image.initrd)?),
        ])
    }

    fn kernel(&self, form: KernelForm) -> Result<Hex48, MeasureError> {
        let memory = self.shape.memory_bytes()?;
        kernel_digest(self.image.kernel, self.image.initrd.len(), memory, form)
    }

    /// The form whose digest the log holds.
    fn kernel_form(&self) -> Result<KernelForm, MeasureError> {
        for form in [KernelForm::AsIs, KernelForm::Patched] {
            if self.logs(Register::Rtmr1, self.kernel(form)?) {
                return Ok(form);
            }
        }
        Err(MeasureError::BootLacks(DigestSource::Kernel))
    }

    /// The form whose digest the log holds.
    fn command_line_form(&self) -> Result<CommandLineForm, MeasureError> {
        for form in CommandLineForm::ALL {
            if self.logs(Register::Rtmr2, command_line_digest(self.image.cmdline, form)?) {
                return Ok(form);
            }
        }
        Err(MeasureError::BootLacks(DigestSource::CommandLine))
    }

    fn logs(&self, register: Register, digest: Hex48) -> bool {
        self.events().any(|event| event.register == register && event.digest == digest)
    }

    /// The order that gives the quote's MRTD.
    fn page_order(&self, tdvf: &Tdvf) -> Result<PageOrder, MeasureError> {
        let mut found = Hex48::ZERO;
        for order in PageOrder::ALL {
            found = mrtd(self.image.firmware, tdvf, order)?;
            if found == self.registers.mrtd {
                return Ok(order);
            }
        }
        Err(MeasureError::RecipeFirmware {
            what: "MRTD",
            found: found.to_string(),
            expected: self.registers.mrtd.to_string(),
        })
    }

    fn source_of(
        &self,
        event: &LoggedEvent,
        known: &[(DigestSource, Hex48)],
        tables: &[(DigestSource, Hex48)],
    ) -> DigestSource {
        let computed = known.iter().find(|(source, digest)| {
            *digest == event.digest && source.register() == event.register.rtmr()
        });
        if let Some((source, _)) = computed {
            return *source;
        }
        if event.register != Register::Rtmr0 {
            return DigestSource::Fixed;
        }
        let taken = |source: &DigestSource| tables.iter().any(|(taken, _)| taken == source);
        match event.event_type {
            HANDOFF_TABLES => DigestSource::Smbios,
            EventType::PlatformConfigFlags if event.payload == ACPI_DATA => {
                ACPI_ORDER.into_iter().find(|source| !taken(source)).unwrap_or(DigestSource::Fixed)
            }
            _ => DigestSource::Fixed,
        }
    }

    /// The recipe explains this very boot, to the last digest.
    fn check_against(&self, recipe: &Recipe) -> Result<(), MeasureError> {
        let expected = expected_events(&self.image, self.shape, recipe)?;
        compare(&expected, self.log, Strictness::Full).map(drop)
    }
}

fn recorded(
    shape: MachineShape,
    tables: &[(DigestSource, Hex48)],
) -> Result<RecordedTables, MeasureError> {
    let digest =
        |wanted| tables.iter().find(|(source, _)| *source == wanted).map(|(_, digest)| *digest);
    let required = |wanted| digest(wanted).ok_or(MeasureError::BootLacks(wanted));
    Ok(RecordedTables {
        shape,
        acpi_loader: required(DigestSource::AcpiLoader)?,
        acpi_rsdp: required(DigestSource::AcpiRsdp)?,
        acpi_tables: required(DigestSource::AcpiTables)?,
        smbios: digest(DigestSource::Smbios),
    })
}

/// For people: what the event is about, and its place where nothing better is known.
fn event_name(number: usize, source: DigestSource, event: &LoggedEvent) -> String {
    if source != DigestSource::Fixed {
        return source.to_string();
    }
    let text = match event.event_type {
        EventType::Separator => Some("separator".to_owned()),
        EventType::Action => String::from_utf8(event.payload.clone()).ok(),
        EventType::VariableDriverConfig | EventType::VariableBoot => variable_name(&event.payload),
        _ => None,
    };
    let readable = |text: &String| {
        (1..=64).contains(&text.len()) && text.chars().all(|letter| matches!(letter, ' '..='~'))
    };
    text.filter(readable).unwrap_or_else(|| format!("event {number}"))
}

fn variable_name(payload: &[u8]) -> Option<String> {
    let length = super::field::size_at(payload, 16)?;
    let bytes = payload.get(32..32_usize.checked_add(length.checked_mul(2)?)?)?;
    let letters = bytes.chunks_exact(2).filter_map(|pair| super::field::u16_at(pair, 0));
    String::from_utf16(&letters.collect::<Vec<_>>()).ok()
}
