//! Rules that hold for a list of events in any format.

use super::{
    error::LogError,
    event::{EventType, LoggedEvent},
};
use crate::{
    event_log::{Registers, extend},
    fixed_hex::Hex48,
};

/// The registers that these events lead to, from all zero.
pub fn replay(events: &[LoggedEvent]) -> Registers {
    let mut registers = [Hex48::ZERO; 4];
    for event in events {
        let register = event.extended_into().and_then(|number| registers.get_mut(number));
        if let Some(register) = register {
            *register = extend(register, &event.digest);
        }
    }
    registers
}

/// That events explain all four registers of a quote, also those that nobody interprets.
pub fn check(events: &[LoggedEvent], quoted: &Registers) -> Result<(), LogError> {
    for (register, (replayed, quoted)) in replay(events).into_iter().zip(*quoted).enumerate() {
        if replayed != quoted {
            return Err(LogError::Replay { register, replayed, quoted });
        }
    }
    Ok(())
}

/// That the firmware's phase ended in RTMR0 and RTMR1. Needed before single events are appraised; call after
/// [`super::payload::bind_all`], which ties a separator's bytes to its digest.
pub fn check_separators(events: &[LoggedEvent]) -> Result<(), LogError> {
    for register in [0, 1] {
        let ended = events.iter().any(|event| {
            event.event_type == EventType::Separator && event.register.rtmr() == Some(register)
        });
        if !ended {
            return Err(LogError::SeparatorMissing { register });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{codes::Code, event::Register, payload::sha384};

    fn event(register: Register, event_type: EventType, payload: &[u8]) -> LoggedEvent {
        let payload = payload.to_vec();
        LoggedEvent { register, event_type, digest: sha384(&payload), payload }
    }

    #[test]
    fn every_register_must_match_and_order_counts() {
        let events = [
            event(Register::Rtmr0, EventType::Action, b"a"),
            event(Register::Rtmr0, EventType::Action, b"b"),
            event(Register::Rtmr1, EventType::Action, b"c"),
            event(Register::Rtmr3, EventType::Other(9), b"d"),
        ];
        let quoted = replay(&events);
        assert_eq!(quoted[0], extend(&extend(&Hex48::ZERO, &sha384(b"a")), &sha384(b"b")));
        assert_eq!(check(&events, &quoted), Ok(()));
        for register in 0..4 {
            let mut other = quoted;
            other[register].0[47] ^= 1;
            let error = check(&events, &other).expect_err("row 36");
            assert_eq!(error.entry(), Code::Replay);
            assert!(matches!(error, LogError::Replay { register: r, .. } if r == register));
        }
        let mut swapped = events;
        swapped.swap(0, 1);
        assert_eq!(check(&swapped, &quoted).expect_err("order").entry(), Code::Replay);
    }

    /// Rows 39 and 40: neither EV_NO_ACTION nor index 0 extends anything.
    #[test]
    fn no_action_and_mrtd_are_not_extended() {
        let events = [
            event(Register::Rtmr0, EventType::NoAction, b"a"),
            event(Register::Mrtd, EventType::Action, b"b"),
        ];
        assert_eq!(replay(&events), [Hex48::ZERO; 4]);
    }

    #[test]
    fn firmware_registers_need_their_separators() {
        let separator = |register| event(register, EventType::Separator, &[0; 4]);
        let both = [separator(Register::Rtmr0), separator(Register::Rtmr1)];
        assert_eq!(check_separators(&both), Ok(()));
        for (missing, kept) in [(0, Register::Rtmr1), (1, Register::Rtmr0)] {
            let error = check_separators(&[separator(kept)]).expect_err("row 46");
            assert_eq!(error, LogError::SeparatorMissing { register: missing });
            assert_eq!(error.entry(), Code::SeparatorMissing);
        }
    }
}
