//! The first message of every connection, in both directions.

use sealtune_job::Hex;
use serde::{Deserialize, Serialize};

/// Protocol version that this crate speaks best.
pub const PROTOCOL: u16 = 1;
/// Oldest that it still speaks.
pub const PROTOCOL_MIN: u16 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Magic {
    #[serde(rename = "sealtune")]
    Sealtune,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtocolRange {
    pub min: u16,
    pub max: u16,
}

impl ProtocolRange {
    pub fn ours() -> Self {
        Self { min: PROTOCOL_MIN, max: PROTOCOL }
    }

    /// The newest version that both sides speak.
    pub fn common(self, other: Self) -> Option<u16> {
        let version = self.max.min(other.max);
        (version >= self.min && version >= other.min).then_some(version)
    }
}

/// Opens a connection. The token's SHA-256 stands in the launch configuration: other users of the host are kept out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SupervisorHello {
    pub magic: Magic,
    pub protocol: ProtocolRange,
    pub release: String,
    pub token: Hex<32>,
    pub purpose: Purpose,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Purpose {
    /// A newer generation replaces an older control connection. `acknowledged` is the last event that is safe on
    /// the supervisor's disk: the agent sends again what follows it.
    Control { generation: u64, acknowledged: u64 },
    /// One transfer that the agent asked for. For an outgoing one, `offset` says where to go on.
    Stream { stream: Hex<16>, offset: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentHello {
    pub magic: Magic,
    pub release: String,
    pub profile: Profile,
    pub answer: Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    Dev,
    Prod,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer", deny_unknown_fields)]
pub enum Answer {
    /// Protocol version that will be spoken; for an incoming stream, where to go on.
    Welcome {
        protocol: u16,
        offset: u64,
    },
    Refused {
        code: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_meet_or_part() {
        let range = |min, max| ProtocolRange { min, max };
        assert_eq!(range(1, 3).common(range(2, 5)), Some(3));
        assert_eq!(range(1, 1).common(range(2, 5)), None);
        assert_eq!(range(4, 5).common(range(1, 3)), None);
    }
}
