//! A key of the configuration, as it is declared once: its name, the kind of its value, its default, and the parts of
//! the daemon that a change of it concerns. The macro [`settings`] turns the declarations in `table` into the structs
//! of the configuration, the list of keys, the reading of each value and the comparison of two configurations.

use std::time::Duration;

use super::rules::Rule;
use super::spelling::nearest;

/// A part of the daemon that depends on some of the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The address of the public listener: a new socket.
    Address,
    /// Sizes, counts and times of the public listener.
    Limits,
    /// The TLS of the public listener.
    Tls,
    /// The settings of the public routes: app id, secrets, addresses, permissions asked for.
    Routes,
    /// The Graph client.
    Graph,
    /// The app-level webhook subscription.
    Subscription,
    /// The Shopify client, and what is read of shops.
    Shopify,
    /// The pages: intervals, fields read, fields subscribed.
    Pages,
    /// The Spaces client and the uploader's limits.
    Uploader,
    /// Log level and format.
    Log,
    /// The exporter of traces.
    Traces,
    /// Browser sessions and login state.
    Sessions,
    /// The receiver of events.
    Notify,
    /// The backups, which a verb makes: nothing in the daemon.
    Backup,
    /// The keys that seal the store's records.
    StoreKeys,
    /// The loopback address of the admin listener.
    Admin,
}

/// The kind of a key's value, with the limits of what is taken.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Text without a line break, under a rule of its own.
    Text(Rule),
    /// An `http://` or `https://` address, kept without a trailing slash.
    Url,
    /// An address that is called as it stands, or `""` for none.
    UrlOrNone,
    /// An address for a browser, kept as it stands, or `""` for none.
    WayOrNone,
    /// `true` or `false`.
    Flag,
    /// A whole number, both ends allowed.
    Count(u64, u64),
    /// A duration such as `"10s"`, both ends allowed.
    Span(Duration, Duration),
    /// An IP address and port.
    Address,
    /// A loopback address and port, or `""` for none.
    LoopbackOrNone,
    /// A path.
    Path(Directory),
    /// A file of certificates, or `""` for none.
    Certificates,
    /// A certificate chain of the daemon's own, from a file or a credential, or `""` for none.
    ChainOrNone,
    /// A private key as PEM from any source of a secret, or `""` for none.
    PrivateKeyOrNone,
    /// A list of texts.
    List,
    /// A list of IP addresses.
    Ips,
    /// The format of the log.
    LogFormat,
    /// A secret from any source.
    Secret,
    /// A secret from any source, or `""` for none.
    SecretOrNone,
    /// A list of secrets, each from any source.
    Secrets,
}

/// Where a path lies under systemd, unless the file gives one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Directory {
    /// The variable that holds the directory.
    pub variable: &'static str,
    /// The name in that directory; empty for the directory itself.
    pub leaf: &'static str,
}

/// The value of a key that neither file nor environment gives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Absent {
    /// It must be given.
    Required,
    /// This text (also durations, addresses, paths and URLs, as the file writes them; `""` is none).
    Text(&'static str),
    /// This number.
    Number(u64),
    /// This flag.
    Flag(bool),
    /// These texts.
    List(&'static [&'static str]),
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    /// The dotted name: section, dot, leaf. The name of a section within another one has a dot as well.
    pub name: &'static str,
    pub kind: Kind,
    pub default: Absent,
    /// The environment variable that wins over the file.
    pub env: Option<&'static str>,
    /// How a person gets a value; empty for keys whose default serves.
    advice: &'static str,
    /// The parts that a change concerns; empty for what cannot change in a running process.
    pub touches: &'static [Part],
}

/// A setting that has an environment variable and no key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variable {
    pub name: &'static str,
    /// The parts that a change concerns.
    pub touches: &'static [Part],
}

/// The constructors are called as the reader's methods are that read such a key.
impl Key {
    const fn new(name: &'static str, kind: Kind, default: Absent) -> Key {
        Key { name, kind, default, env: None, advice: "", touches: &[] }
    }

    pub(super) const fn text(name: &'static str, default: Absent, rule: Rule) -> Key {
        Key::new(name, Kind::Text(rule), default)
    }

    pub(super) const fn text_or_none(name: &'static str, rule: Rule) -> Key {
        Key::new(name, Kind::Text(rule), Absent::Text(""))
    }

    pub(super) const fn url(name: &'static str, default: &'static str) -> Key {
        Key::new(name, Kind::Url, Absent::Text(default))
    }

    pub(super) const fn url_or_none(name: &'static str) -> Key {
        Key::new(name, Kind::UrlOrNone, Absent::Text(""))
    }

    pub(super) const fn way_or_none(name: &'static str) -> Key {
        Key::new(name, Kind::WayOrNone, Absent::Text(""))
    }

    pub(super) const fn flag(name: &'static str, default: bool) -> Key {
        Key::new(name, Kind::Flag, Absent::Flag(default))
    }

    pub(super) const fn count(name: &'static str, least: u64, most: u64, default: u64) -> Key {
        Key::new(name, Kind::Count(least, most), Absent::Number(default))
    }

    pub(super) const fn span(name: &'static str, least: Duration, most: Duration, default: &'static str) -> Key {
        Key::new(name, Kind::Span(least, most), Absent::Text(default))
    }

    pub(super) const fn address(name: &'static str, default: &'static str) -> Key {
        Key::new(name, Kind::Address, Absent::Text(default))
    }

    pub(super) const fn loopback_or_none(name: &'static str) -> Key {
        Key::new(name, Kind::LoopbackOrNone, Absent::Text(""))
    }

    pub(super) const fn path(name: &'static str, default: &'static str, directory: Directory) -> Key {
        Key::new(name, Kind::Path(directory), Absent::Text(default))
    }

    pub(super) const fn certificates(name: &'static str) -> Key {
        Key::new(name, Kind::Certificates, Absent::Text(""))
    }

    pub(super) const fn chain_or_none(name: &'static str) -> Key {
        Key::new(name, Kind::ChainOrNone, Absent::Text(""))
    }

    pub(super) const fn private_key_or_none(name: &'static str) -> Key {
        Key::new(name, Kind::PrivateKeyOrNone, Absent::Text(""))
    }

    pub(super) const fn list(name: &'static str, default: &'static [&'static str]) -> Key {
        Key::new(name, Kind::List, Absent::List(default))
    }

    pub(super) const fn ips(name: &'static str, default: &'static [&'static str]) -> Key {
        Key::new(name, Kind::Ips, Absent::List(default))
    }

    pub(super) const fn log_format(name: &'static str, default: &'static str) -> Key {
        Key::new(name, Kind::LogFormat, Absent::Text(default))
    }

    pub(super) const fn secret(name: &'static str) -> Key {
        Key::new(name, Kind::Secret, Absent::Required)
    }

    pub(super) const fn secret_or_none(name: &'static str) -> Key {
        Key::new(name, Kind::SecretOrNone, Absent::Text(""))
    }

    pub(super) const fn secrets(name: &'static str) -> Key {
        Key::new(name, Kind::Secrets, Absent::List(&[]))
    }

    pub(super) const fn with_env(self, name: &'static str) -> Key {
        Key { env: Some(name), ..self }
    }

    pub(super) const fn with_advice(self, advice: &'static str) -> Key {
        Key { advice, ..self }
    }

    pub(super) const fn touching(self, touches: &'static [Part]) -> Key {
        Key { touches, ..self }
    }

    /// The part of the name before the last dot.
    pub(super) fn section(&self) -> &'static str {
        self.name.rsplit_once('.').map_or(self.name, |(section, _)| section)
    }

    /// The part of the name after the last dot.
    pub(super) fn leaf(&self) -> &'static str {
        self.name.rsplit_once('.').map_or(self.name, |(_, leaf)| leaf)
    }

    /// How a person gets a value, for hints.
    pub(super) fn advice(&self) -> &'static str {
        if self.advice.is_empty() { "give it a value, or take the line out to have the default" } else { self.advice }
    }

    /// The default as the file writes it; `None` for keys without a plain default.
    pub(super) fn default_text(&self) -> Option<String> {
        match self.default {
            Absent::Text(text) => Some(text.to_owned()),
            Absent::Number(number) => Some(number.to_string()),
            Absent::Flag(flag) => Some(flag.to_string()),
            Absent::Required | Absent::List(_) => None,
        }
    }
}

/// All keys, as `table` declares them.
pub(super) struct Table {
    /// The names of the sections, in the order of the example.
    pub sections: &'static [&'static str],
    /// In the order of the example.
    pub keys: &'static [Key],
    pub variables: &'static [Variable],
}

impl Table {
    /// The key of this dotted name.
    pub(super) fn find(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The known key that `unknown` most likely means: the one of its own section that begins so, then the same leaf in
    /// another section (a key under the wrong header), then the closest leaf in its own section, then the closest whole
    /// name.
    pub(super) fn nearest_key(&self, unknown: &str) -> &'static str {
        let (section, leaf) = unknown.rsplit_once('.').unwrap_or(("", unknown));
        let begins = |key: &&Key| key.section() == section && leaf.len() > 3 && key.leaf().starts_with(leaf);
        if let Some(longer) = self.keys.iter().find(begins) {
            return longer.name;
        }
        if let Some(moved) = self.keys.iter().find(|key| key.leaf() == leaf) {
            return moved.name;
        }
        let mates = self.keys.iter().filter(|key| key.section() == section);
        let close = mates.map(|key| (strsim::jaro_winkler(leaf, key.leaf()), key.name));
        if let Some((likeness, name)) = close.max_by(|a, b| a.0.total_cmp(&b.0))
            && likeness > 0.7
        {
            return name;
        }
        nearest(unknown, self.keys.iter().map(|key| key.name)).unwrap_or("http.listen")
    }
}

/// Declares sections with their keys.
///
/// A key is `name: type = kind(arguments) => [parts];`, with `env "NAME"` and `advice "..."` before the arrow where
/// there are such. The kind names a constructor of [`Key`] and the method of the reader that returns the type. A
/// section may be followed by `@variables`: settings that have an environment variable and no key. The caller has a
/// macro `section_name` that turns the name of a field into that of its section.
macro_rules! settings {
    ($(
        $(#[$about:meta])*
        $section:ident: $Section:ident {
            $(
                $(#[$doc:meta])*
                $leaf:ident: $type:ty = $kind:ident($($argument:expr),* $(,)?)
                    $(env $env:literal)? $(advice $advice:literal)? => [$($part:ident),*];
            )*
        }
        $(@variables {
            $(
                $(#[$variable_doc:meta])*
                $field:ident = $variable:literal => [$($variable_part:ident),*];
            )*
        })?
    )*) => {
        /// A configuration that passed every rule.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Config {
            $($(#[$about])* pub $section: $Section,)*
        }

        $(
            #[doc = concat!("`[", section_name!($section), "]`")]
            #[derive(Debug, Clone, PartialEq)]
            pub struct $Section {
                $($(#[$doc])* pub $leaf: $type,)*
                $($($(#[$variable_doc])* pub $field: Option<String>,)*)?
            }

            /// The keys, each under the name of its field.
            #[allow(non_upper_case_globals)]
            impl $Section {
                $(
                    pub(super) const $leaf: Key =
                        Key::$kind(concat!(section_name!($section), ".", stringify!($leaf)), $($argument),*)
                            $(.with_env($env))? $(.with_advice($advice))?
                            .touching(&[$(Part::$part),*]);
                )*
                $($(
                    pub(super) const $field: Variable =
                        Variable { name: $variable, touches: &[$(Part::$variable_part),*] };
                )*)?

                pub(super) fn read(reader: &mut Reader<'_>) -> $Section {
                    $Section {
                        $($leaf: reader.$kind(&$Section::$leaf),)*
                        $($($field: reader.setting_variable(&$Section::$field),)*)?
                    }
                }
            }
        )*

        /// Every key.
        pub(super) static TABLE: Table = Table {
            sections: &[$(section_name!($section)),*],
            keys: &[$($($Section::$leaf,)*)*],
            variables: &[$($($($Section::$field,)*)?)*],
        };

        impl Config {
            /// Reads every value.
            pub(super) fn read(reader: &mut Reader<'_>) -> Config {
                Config { $($section: $Section::read(reader),)* }
            }

            /// The names of the keys, and then of the variables, whose values differ, each with the parts concerned.
            pub(super) fn differing(&self, other: &Config) -> Vec<(&'static str, &'static [Part])> {
                let keys = [$($(
                    ($Section::$leaf.name, $Section::$leaf.touches, self.$section.$leaf != other.$section.$leaf),
                )*)*];
                let variables = [$($($(
                    ($Section::$field.name, $Section::$field.touches, self.$section.$field != other.$section.$field),
                )*)?)*];
                let all = keys.into_iter().chain(variables);
                all.filter(|(_, _, differs)| *differs).map(|(name, touches, _)| (name, touches)).collect()
            }
        }
    };
}

pub(super) use settings;
