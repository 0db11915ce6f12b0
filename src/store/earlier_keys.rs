//! The keys of format 1 under which an earlier release stored its records, and the keys of today for them. The bytes of
//! a key show which form it has. See [`migration`](super::migration).

use uuid::Uuid;

use super::tree::Tree;
use crate::core::model::{LinkKey, PageId, UserId};

/// Bytes of a user at the beginning of a key.
const USER_BYTES: usize = 16;
/// Behind the part in the key of a body's piece: a separator, the entry's number, the piece's number.
const PIECE_BYTES: usize = 1 + 8 + 4;

/// The key of today for a key of any format.
pub(super) fn key_of_today(tree: Tree, key: &[u8]) -> Vec<u8> {
    let link = |key| earlier_link(key).filter(|(_, rest)| rest.is_empty()).map(|(link, _)| link);
    let today = match tree {
        Tree::Links => link(key).map(|link| link.to_bytes()),
        Tree::Marks | Tree::Outbox | Tree::Synced | Tree::Fields => link(key).map(|link| link.whole().to_bytes()),
        Tree::Bodies => {
            let piece = earlier_link(key).filter(|(_, rest)| rest.len() == PIECE_BYTES && rest[0] == 0);
            piece.map(|(link, rest)| [link.whole().to_bytes().as_slice(), rest].concat())
        }
        Tree::Cleanups => {
            let link = key.strip_prefix(b"d").and_then(link);
            link.map(|link| [b"d".as_slice(), &link.whole().to_bytes()].concat())
        }
        Tree::Meta
        | Tree::Accounts
        | Tree::Sessions
        | Tree::Logins
        | Tree::States
        | Tree::Deletions
        | Tree::Events
        | Tree::Shops
        | Tree::Products
        | Tree::Catalogues => None,
    };
    today.unwrap_or_else(|| key.to_vec())
}

/// Reads a link at the beginning of a key of format 1. A key of today has a letter where that one has a digit.
fn earlier_link(key: &[u8]) -> Option<(LinkKey, &[u8])> {
    let (user, rest) = key.split_at_checked(USER_BYTES)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (id, rest) = rest.split_at(digits);
    let page: PageId = std::str::from_utf8(id).ok()?.parse().ok()?;
    Some((LinkKey::new(UserId(Uuid::from_slice(user).ok()?), page), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::cleanup::Cleanup;
    use crate::core::model::PartKey;
    use proptest::prelude::*;

    const BY_PART: [Tree; 4] = [Tree::Marks, Tree::Outbox, Tree::Synced, Tree::Fields];

    proptest! {
        #[test]
        fn each_key_of_format_1_has_one_key_of_today(user: u128, page in "[0-9]{1,32}", piece: [u8; 12]) {
            let link = LinkKey::new(UserId(Uuid::from_u128(user)), page.parse().unwrap());
            let earlier = [user.to_be_bytes().as_slice(), page.as_bytes()].concat();
            prop_assert_eq!(LinkKey::from_bytes(&key_of_today(Tree::Links, &earlier)), Some(link.clone()));
            for tree in BY_PART {
                prop_assert_eq!(PartKey::from_bytes(&key_of_today(tree, &earlier)), Some(link.whole()));
            }
            let body = key_of_today(Tree::Bodies, &[earlier.as_slice(), &[0], &piece].concat());
            prop_assert_eq!(body, [link.whole().to_bytes().as_slice(), &[0], &piece].concat());
            let cleanup = key_of_today(Tree::Cleanups, &[b"d", earlier.as_slice()].concat());
            prop_assert_eq!(Cleanup::from_bytes(&cleanup), Some(Cleanup::DeleteAgain(link.whole())));
            prop_assert_eq!(key_of_today(Tree::Accounts, &earlier), earlier);
        }

        #[test]
        fn a_key_of_today_stays_as_it_is(user: [u8; 16], mut key: Vec<u8>, earlier in "[0-9]{0,33}", shape in 0..4) {
            match shape {
                0 => {}
                1 => key = [user.as_slice(), earlier.as_bytes()].concat(),
                2 => key = [b"d", user.as_slice(), earlier.as_bytes()].concat(),
                _ => key = [user.as_slice(), earlier.as_bytes(), &[0; PIECE_BYTES]].concat(),
            }
            for tree in Tree::ALL {
                let today = key_of_today(tree, &key);
                prop_assert_eq!(key_of_today(tree, &today), today);
            }
        }
    }
}
