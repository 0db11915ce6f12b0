//! What the committer asks of the database that daemons share. [`PostgreSql`](super::postgresql) answers it in production,
//! and [`Session`](super::stepped) in memory, where a test chooses what is lost on the way.

use super::errors::ConnectError;
use super::life::Life;
use crate::core::lease::Member;
use crate::core::model::WallTime;
use crate::store::engine::Engine;
use crate::store::state::State;
use crate::store::tree::Write;

/// A session with the database. An error says in words why the database cannot be relied on; the committer loads anew
/// then.
pub(super) trait Database {
    /// Begins a transaction, becomes the one that decides, declares the overdue dead, and reads what was decided since the
    /// version `seen`. `None` when another daemon's turn takes long.
    fn open_turn(&mut self, life: &Life, seen: u64) -> Result<Option<(Opened, Vec<News>)>, String>;

    /// Commits the transaction of the turn with these writes. After an error it may be committed or not.
    fn commit<'a>(&mut self, writes: impl Iterator<Item = &'a Write>, sent: Sent) -> Result<(), String>;

    /// Ends the transaction of the turn, in which nothing was decided.
    fn roll_back(&mut self) -> Result<(), String>;

    /// Outside of a turn: what was decided since this version.
    fn news(&mut self, life: &Life, seen: u64) -> Result<Vec<News>, String>;

    /// Bytes that the tables take.
    fn size(&mut self) -> Result<u64, String>;

    /// Removes what every daemon has seen up to this version, and daemons that are long dead. Returns how many rows of
    /// `changes` are gone.
    fn prune(&mut self, old: u64) -> Result<u64, String>;

    /// Ends the session, and with it a transaction that is open.
    fn disconnect(&mut self);

    /// Connects and reads everything. The daemon is born if it is not alive.
    ///
    /// # Errors
    /// [`ConnectError`].
    fn load(&mut self, life: &Life) -> Result<Loaded, ConnectError>;
}

/// What a turn began with.
pub(super) struct Opened {
    /// The newest version, and the highest number that was handed out.
    pub head: u64,
    pub number: u64,
    /// The daemons that are not dead, and this one in any case.
    pub members: Vec<Member>,
    /// Members were overdue, and are dead from here on.
    pub has_executed: bool,
    /// This moment on the database's clock.
    pub now: WallTime,
}

/// What one transaction of another daemon decided.
pub(super) struct News {
    pub version: u64,
    /// A [batch](super::batch).
    pub bytes: Vec<u8>,
}

/// What goes to the database with the writes of a transaction.
pub(super) struct Sent {
    /// The newest version from then on.
    pub version: u64,
    /// The [batch](super::batch) for the others; empty where there is no news.
    pub bytes: Vec<u8>,
    /// The highest number that was handed out.
    pub used: u64,
    /// This incarnation is dead from then on.
    pub leaves: Option<u64>,
}

/// What lies in the database.
pub(super) struct Loaded {
    pub engine: Engine,
    pub state: State,
    pub seen: u64,
}
