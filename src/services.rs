//! From a request, or a file, to the store: logins, imports, exports, backups, and persons to forget.

pub mod backup;
pub mod export;
pub mod import;
pub mod installation;
pub mod login;
pub mod problems;
pub mod purge;
pub mod redaction;
pub mod shop_index;
pub mod shop_tokens;
pub mod token_trial;
pub mod uninstall;
