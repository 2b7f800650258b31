//! What comes back when NSCQ is asked: it calls back, once for each switch, before the question returns. A library that calls
//! too often, for nobody, or with an error is found out here; nothing here knows of C.

use crate::switch_library::{AnswerFault, SwitchCallError, SwitchCalled, Uuid};

/// More than any driver has switches.
const LIMIT: usize = 64;

#[derive(Debug)]
pub(crate) struct Observation<T> {
    answers: Vec<(Uuid, T)>,
    /// The first counts.
    fault: Option<Fault>,
    is_over: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Code(i8),
    Answer(AnswerFault),
}

impl<T> Observation<T> {
    pub(crate) fn new() -> Self {
        Self { answers: Vec::new(), fault: None, is_over: false }
    }

    /// One call back. What comes after the question returned is nothing.
    pub(crate) fn note(&mut self, switch: Option<Uuid>, code: i8, value: Option<T>) {
        if self.is_over || self.fault.is_some() {
            return;
        }
        let fault = match (code, switch, value) {
            (0, Some(switch), Some(value)) if self.answers.len() < LIMIT => {
                self.answers.push((switch, value));
                return;
            }
            (0, Some(_), Some(_)) => Fault::Answer(AnswerFault::TooMany),
            (0, _, None) => Fault::Answer(AnswerFault::Empty),
            (0, None, _) => Fault::Answer(AnswerFault::Unnamed),
            (code, ..) => Fault::Code(code),
        };
        self.fault = Some(fault);
    }

    /// The question returned.
    pub(crate) fn end(&mut self, what: &'static str) -> SwitchCalled<Vec<(Uuid, T)>> {
        self.is_over = true;
        let answers = std::mem::take(&mut self.answers);
        match self.fault {
            None => Ok(answers),
            Some(Fault::Code(code)) => Err(SwitchCallError::Code { call: what, code }),
            Some(Fault::Answer(fault)) => Err(SwitchCallError::Answer { what, fault }),
        }
    }
}

/// The one answer to a question about one switch.
pub(crate) fn only<T>(
    answers: Vec<(Uuid, T)>,
    wanted: &Uuid,
    what: &'static str,
) -> SwitchCalled<T> {
    let mut answers = answers.into_iter();
    let fault = match (answers.next(), answers.next()) {
        (Some((switch, value)), None) if switch == *wanted => return Ok(value),
        (Some(_), None) => AnswerFault::Other,
        (None, _) => AnswerFault::None,
        (Some(_), Some(_)) => AnswerFault::Repeated,
    };
    Err(SwitchCallError::Answer { what, fault })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Uuid = [1; 16];
    const TWO: Uuid = [2; 16];

    fn end(calls: &[(Option<Uuid>, i8, Option<u8>)]) -> SwitchCalled<Vec<(Uuid, u8)>> {
        let mut observation = Observation::new();
        for (switch, code, value) in calls {
            observation.note(*switch, *code, *value);
        }
        let ended = observation.end("x");
        observation.note(Some(ONE), 0, Some(9));
        assert!(observation.answers.is_empty(), "an answer after the end");
        ended
    }

    #[test]
    fn answers_come_as_they_were_given() {
        assert_eq!(end(&[]), Ok(vec![]));
        let two = [(Some(TWO), 0, Some(5)), (Some(ONE), 0, Some(6))];
        assert_eq!(end(&two), Ok(vec![(TWO, 5), (ONE, 6)]));
        assert_eq!(end(&vec![two[0]; LIMIT]).map(|answers| answers.len()), Ok(LIMIT));
    }

    #[test]
    fn the_first_fault_counts_and_no_answer_beside_it() {
        let answer = |fault| Err(SwitchCallError::Answer { what: "x", fault });
        let code = |code| Err(SwitchCallError::Code { call: "x", code });
        let good = (Some(ONE), 0, Some(1));
        assert_eq!(end(&[good, (Some(ONE), -7, Some(1))]), code(-7));
        assert_eq!(end(&[good, (Some(ONE), 1, Some(1)), (Some(ONE), -7, None)]), code(1));
        assert_eq!(end(&[(None, -8, None), good]), code(-8));
        assert_eq!(end(&[(None, 0, Some(1))]), answer(AnswerFault::Unnamed));
        assert_eq!(end(&[good, (Some(ONE), 0, None)]), answer(AnswerFault::Empty));
        assert_eq!(end(&vec![good; LIMIT + 1]), answer(AnswerFault::TooMany));
        assert_eq!(end(&vec![good; 100_000]), answer(AnswerFault::TooMany));
    }

    #[test]
    fn one_question_has_one_answer() {
        let fault = |answers: &[(Uuid, u8)]| match only(answers.to_vec(), &ONE, "x") {
            Err(SwitchCallError::Answer { fault, .. }) => fault,
            other => panic!("{other:?}"),
        };
        assert_eq!(only(vec![(ONE, 7)], &ONE, "x"), Ok(7));
        assert_eq!(fault(&[]), AnswerFault::None);
        assert_eq!(fault(&[(TWO, 7)]), AnswerFault::Other);
        assert_eq!(fault(&[(ONE, 7), (ONE, 7)]), AnswerFault::Repeated);
        assert_eq!(fault(&[(ONE, 7), (TWO, 7)]), AnswerFault::Repeated);
    }
}
