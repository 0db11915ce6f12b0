//! Lists of names that the records of links share. Nearly all links have the same few, and each link has several of them.

use std::collections::HashSet;

use crate::core::model::Names;
use crate::store::records::LinkRecord;

/// As many lists are kept before those are looked for that no link has any more.
const SLACK: usize = 64;

/// The lists.
#[derive(Default)]
pub(in crate::store) struct NamePool {
    known: HashSet<Names>,
    /// So many lists had a link when that was looked for last.
    used: usize,
}

impl NamePool {
    /// Lets a record share its lists with others that have the same.
    pub(in crate::store) fn share(&mut self, record: &mut LinkRecord) {
        let LinkRecord { subscribed, refused_webhook_fields, refused_page_fields, checked, .. } = record;
        for names in [subscribed, refused_webhook_fields, refused_page_fields, &mut checked.scopes] {
            self.share_one(names);
        }
    }

    fn share_one(&mut self, names: &mut Names) {
        if names.is_empty() {
            return;
        }
        if let Some(known) = self.known.get(names) {
            *names = known.clone();
            return;
        }
        if self.known.len() >= SLACK + 2 * self.used {
            self.known.retain(Names::is_shared);
            self.used = self.known.len();
        }
        self.known.insert(names.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_share_their_lists_and_lists_that_nobody_has_go() {
        let mut pool = NamePool::default();
        let mut record = |names: &[String]| {
            let mut record = LinkRecord { subscribed: names.to_vec().into(), ..LinkRecord::default() };
            pool.share(&mut record);
            record
        };
        let names = ["about".to_owned(), "name".to_owned()];
        let (one, two) = (record(&names), record(&names));
        assert!(std::ptr::eq(one.subscribed.as_ptr(), two.subscribed.as_ptr()));
        (0..10 * SLACK).for_each(|n| drop(record(&[n.to_string()])));
        assert_eq!(record(&names).subscribed.as_ptr(), one.subscribed.as_ptr());
        assert!(pool.known.len() <= SLACK + 2);
    }
}
