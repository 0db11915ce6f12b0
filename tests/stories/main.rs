//! Stories: the daemon as its people meet it.

mod door;
mod webdriver;
