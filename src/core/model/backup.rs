//! The name of a backup in the bucket: when it was made, and by which host.

use std::fmt;
use std::str::FromStr;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::WallTime;

/// The beginning of the keys of all backups. No link's object has such a key.
pub const BACKUPS: &str = "backups/";
const SUFFIX: &str = ".json";
/// The length of a time such as `20261122T100000Z`.
const STAMP: usize = 16;
/// The longest name of a host.
const MAX_HOST: usize = 64;

/// `20261122T100000Z-HOST.json`: the time in UTC, and the host. Names are ordered by their times.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupName {
    at: WallTime,
    host: String,
}

/// The text is not the name of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not the name of a backup, such as 20261122T100000Z-host.json")]
pub struct BadBackupName;

impl BackupName {
    /// The name of a backup that this host makes at this time. Of the host only letters, digits, `.`, `-` and `_` are
    /// kept.
    pub fn new(at: WallTime, host: &str) -> BackupName {
        let host: String = host.chars().filter(is_plain).take(MAX_HOST).collect();
        let host = if host.is_empty() { "host".to_owned() } else { host };
        BackupName { at: WallTime(at.0 / 1000 * 1000), host }
    }

    /// When the backup was made, to the second.
    pub fn at(&self) -> WallTime {
        self.at
    }
}

fn is_plain(c: &char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')
}

impl fmt::Display for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stamp = self.at.rfc3339().replace(['-', ':'], "");
        write!(f, "{stamp}-{}{SUFFIX}", self.host)
    }
}

impl FromStr for BackupName {
    type Err = BadBackupName;

    /// The name with or without the part of the key before it.
    fn from_str(text: &str) -> Result<BackupName, BadBackupName> {
        let text = text.strip_prefix(BACKUPS).unwrap_or(text);
        let (stamp, rest) = text.split_at_checked(STAMP).ok_or(BadBackupName)?;
        let host = rest.strip_prefix('-').and_then(|rest| rest.strip_suffix(SUFFIX)).ok_or(BadBackupName)?;
        let name = BackupName::new(moment(stamp).ok_or(BadBackupName)?, host);
        // Other spellings of a time or a host are not names that this program gives.
        if name.to_string() == text { Ok(name) } else { Err(BadBackupName) }
    }
}

/// The moment of `20261122T100000Z`.
fn moment(stamp: &str) -> Option<WallTime> {
    if !stamp.is_ascii() {
        return None;
    }
    let part = |from: usize, to: usize| stamp.get(from..to).unwrap_or_default();
    let (date, time) =
        ([part(0, 4), part(4, 6), part(6, 8)].join("-"), [part(9, 11), part(11, 13), part(13, 15)].join(":"));
    let read = OffsetDateTime::parse(&format!("{date}T{time}Z"), &Rfc3339).ok()?;
    u64::try_from(read.unix_timestamp()).ok().map(|seconds| WallTime(seconds * 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_time_and_host_and_is_read_again() {
        let name = BackupName::new(WallTime(1_795_341_600_999), "a host.example/..");
        assert_eq!(name.to_string(), "20261122T100000Z-ahost.example...json");
        assert_eq!(name.to_string().parse(), Ok(name.clone()));
        assert_eq!(format!("{BACKUPS}{name}").parse(), Ok(name.clone()));
        assert_eq!(name.at(), WallTime(1_795_341_600_000));
        assert!(BackupName::new(WallTime(1_795_341_601_000), "a") > name);
        assert_eq!(BackupName::new(WallTime(0), "").to_string(), "19700101T000000Z-host.json");
    }

    #[test]
    fn other_names_are_no_backups() {
        for other in [
            "",
            "notes.json",
            "20261122T100000Z.json",
            "20261122T100000Z-.json",
            "20261122T100000Z-host.txt",
            "20261322T100000Z-host.json",
            "20261122 100000Z-host.json",
            "20261122T100000Z-ho/st.json",
            "20261122T100000Z-../host.json",
            "backups/backups/20261122T100000Z-host.json",
            "2026112éT10000Z-host.json",
        ] {
            assert_eq!(other.parse::<BackupName>(), Err(BadBackupName), "{other}");
        }
    }
}
