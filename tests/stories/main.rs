//! Stories: the daemon as its people meet it.

mod browser;
mod webdriver;
