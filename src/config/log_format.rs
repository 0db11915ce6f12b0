//! How log messages are written.

/// How log messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogFormat {
    /// To the journal when standard error is the journal, as text otherwise.
    Auto,
    /// Text for persons, on standard error.
    Text,
    /// One JSON object per message, on standard error.
    Json,
    /// Structured, to the systemd journal.
    Journald,
}

impl LogFormat {
    /// Every format.
    pub const ALL: [LogFormat; 4] = [LogFormat::Auto, LogFormat::Text, LogFormat::Json, LogFormat::Journald];

    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            LogFormat::Auto => "auto",
            LogFormat::Text => "text",
            LogFormat::Json => "json",
            LogFormat::Journald => "journald",
        }
    }
}
