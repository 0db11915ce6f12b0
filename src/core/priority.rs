//! Which of two calls of a source goes first where calls must wait.

/// Who waits for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Priority {
    /// Somebody waits for it: a login, a link that changed just now.
    Prompt,
    /// The poll and other upkeep.
    Background,
}
