//! Which database a session has reached, and which of its histories.
//!
//! A failover, a restore and a copy lead the same address to another database, or to an earlier state of the same one.
//! What was committed last may be missing there, and numbers that were handed out come a second time. So a daemon must
//! never go on with the memory that it has. Two things tell:
//!
//! * The *identity* is that of the server and of the tables, as the server itself names them: the system identifier, the
//!   object identifiers of the database and of the table `meta`, and the timeline. A promoted standby has another timeline,
//!   a copy of a server has another one or another system identifier, a restored dump has other tables. `meta` notes the
//!   identity, and where it is not that of the server, the database has become another one.
//! * The *history* is a name that `meta` gets at first and with each such change. It begins with a number that rises. A
//!   daemon notes under which history its memory was read, and follows no other one. The random part tells two
//!   standbys that were promoted at the same number.
//!
//! The timeline is taken from the name of the WAL file that is written now: `pg_control_checkpoint()` says that of the last
//! checkpoint, which lags behind a promotion. A server may keep these functions from its users. A part that cannot be
//! asked for is unknown, and equal to any other.

use std::fmt;

use tokio_postgres::Row;

use crate::random;

/// In place of a part that the server does not tell.
const UNKNOWN: &str = "-";

/// May the user ask for the system identifier, and for the timeline? Two columns.
pub(super) const PRIVILEGES: &str = "has_function_privilege('pg_control_system()', 'execute'), \
                                     has_function_privilege('pg_current_wal_lsn()', 'execute') \
                                     and has_function_privilege('pg_walfile_name(pg_lsn)', 'execute')";

/// How a session asks for the identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    expression: String,
    is_complete: bool,
}

impl Naming {
    /// For a user who may ask for these.
    pub(super) fn new(system: bool, timeline: bool) -> Naming {
        let ask = |allowed: bool, question: &str| if allowed { question.to_owned() } else { format!("'{UNKNOWN}'") };
        let of_system = ask(system, "(select system_identifier from pg_control_system())");
        let of_timeline = ask(timeline, "substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)");
        let expression = format!(
            "(select concat({of_system}, '/', (select oid from pg_database where datname = current_database()), '/', \
             tableoid, ' ', {of_timeline}) from meta)"
        );
        Naming { expression, is_complete: system && timeline }
    }

    /// An expression for the identity, as [`Identity::of`] reads it.
    pub(super) fn expression(&self) -> &str {
        &self.expression
    }

    /// The columns that [`Lineage::check`] looks at.
    pub(super) fn columns(&self) -> String {
        format!("history, {}", self.expression)
    }

    /// Does the server tell all parts?
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }
}

/// Which database it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    system: String,
    /// The object identifiers of the database and of the table `meta`.
    tables: String,
    timeline: String,
}

impl Identity {
    /// The identity of this text; `None` where it is none.
    pub(super) fn of(text: &str) -> Option<Identity> {
        let (database, timeline) = text.split_once(' ')?;
        let (system, tables) = database.split_once('/')?;
        Some(Identity { system: system.to_owned(), tables: tables.to_owned(), timeline: timeline.to_owned() })
    }

    /// The values of `meta.system_id` and of `meta.timeline`.
    pub(super) fn columns(&self) -> (String, &str) {
        (format!("{}/{}", self.system, self.tables), &self.timeline)
    }

    /// Are these two databases, or one on two timelines?
    pub(super) fn is_other(&self, than: &Identity) -> bool {
        let differ = |a: &str, b: &str| a != b && a != UNKNOWN && b != UNKNOWN;
        differ(&self.system, &than.system) || self.tables != than.tables || differ(&self.timeline, &than.timeline)
    }

    /// This one, with the parts of the other one that it lacks.
    #[must_use]
    pub(super) fn or(self, other: &Identity) -> Identity {
        let known = |mine: String, other: &str| if mine == UNKNOWN { other.to_owned() } else { mine };
        let Identity { system, tables, timeline } = self;
        Identity { system: known(system, &other.system), tables, timeline: known(timeline, &other.timeline) }
    }

    /// Does it have a part that the other one lacks?
    pub(super) fn knows_more(&self, than: &Identity) -> bool {
        let adds = |a: &str, b: &str| a != UNKNOWN && b == UNKNOWN;
        adds(&self.system, &than.system) || adds(&self.timeline, &than.timeline)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { system, tables, timeline } = self;
        write!(f, "system {system}, database {tables}, timeline {timeline}")
    }
}

/// The name of a history: a number and a random part.
pub(super) fn new_history(number: u64) -> String {
    format!("{number}-{}", hex::encode(random::unique::<8>()))
}

/// The number in the name of a history; 0 in what is none.
pub(super) fn number_of(history: &str) -> u64 {
    history.split('-').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// The history that a memory was read under, and the database that it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lineage {
    pub history: String,
    pub identity: Identity,
}

impl Lineage {
    /// Is a row, which has the [columns](Naming::columns) from this one on, of this history and of this database?
    ///
    /// # Errors
    /// Why memory is not to be used any more.
    pub(super) fn check(&self, row: Option<&Row>, column: usize) -> Result<(), String> {
        let text = |column| row.and_then(|row| row.try_get::<_, Option<String>>(column).ok().flatten());
        self.check_words(text(column).as_deref(), text(column + 1).as_deref())
    }

    /// The same for the two words.
    ///
    /// # Errors
    /// As there.
    pub(super) fn check_words(&self, history: Option<&str>, identity: Option<&str>) -> Result<(), String> {
        let is_same = history.is_some_and(|history| history == self.history) && self.is_of(identity);
        if is_same { Ok(()) } else { Err("the database is another one than the one that was read".into()) }
    }

    /// Is this the identity of the same database?
    pub(super) fn is_of(&self, identity: Option<&str>) -> bool {
        let found = identity.and_then(Identity::of);
        found.is_some_and(|found| !found.is_other(&self.identity))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_is_not_known_is_no_difference() {
        let identity = |text| Identity::of(text).unwrap();
        let known = identity("7423/16384/16390 00000001");
        assert_eq!(known.columns(), ("7423/16384/16390".to_owned(), "00000001"));
        for other in
            ["7424/16384/16390 00000001", "7423/16385/16390 00000001", "7423/16384/16391 -", "-/16384/16390 00000002"]
        {
            assert!(identity(other).is_other(&known) && known.is_other(&identity(other)), "{other}");
        }
        for same in ["7423/16384/16390 00000001", "-/16384/16390 00000001", "-/16384/16390 -"] {
            assert!(!identity(same).is_other(&known) && !known.is_other(&identity(same)), "{same}");
            assert_eq!(known.knows_more(&identity(same)), same.contains('-'), "{same}");
            assert_eq!(identity(same).or(&known), known);
        }
        assert_eq!(Identity::of(""), None);
    }

    #[test]
    fn a_history_has_a_number_and_no_other_one_has_its_name() {
        let (one, other) = (new_history(3), new_history(3));
        assert_eq!((number_of(&one), number_of(&other), number_of("")), (3, 3, 0));
        assert_ne!(one, other);
    }
}
