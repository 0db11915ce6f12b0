//! Several daemons in the console: what each of them holds, and the buttons of each and of their database.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::control::{FleetControl, MemberAction, MemberView};
use super::{Answer, Console, Pulse, bad};
use crate::core::lease::BUCKETS;
use crate::sandbox::activity::ActivityKind;

#[derive(Deserialize)]
pub(super) struct OfDaemon {
    action: MemberAction,
    /// Its name, where there are several.
    daemon: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum DatabaseAction {
    Start,
    Stop,
}

#[derive(Deserialize)]
pub(super) struct OfDatabase {
    action: DatabaseAction,
}

/// The names of the daemons by the numbers of their runs, as one of them lists the cluster.
fn names(status: &Value) -> BTreeMap<u64, &str> {
    let daemons = status["cluster"]["daemons"].as_array().into_iter().flatten();
    daemons.filter_map(|daemon| Some((daemon["id"].as_u64()?, daemon["node"].as_str()?))).collect()
}

/// The numbers of the daemons that hold these links.
fn holders_of(links: &Value) -> impl Iterator<Item = u64> {
    links.as_array().into_iter().flatten().filter_map(|link| link["daemon"].as_u64())
}

/// A daemon with what it holds. A run that was killed a moment ago may be listed beside the run of the same name that
/// followed.
fn shown(member: &MemberView, pulse: &Pulse) -> Value {
    let known = pulse.status["cluster"]["daemons"].as_array();
    let runs: Vec<&Value> = known.into_iter().flatten().filter(|run| run["node"] == member.name.as_str()).collect();
    let names = names(&pulse.status);
    let all = holders_of(&pulse.pages["pages"]).chain(holders_of(&pulse.shops["links"]));
    let mut shown = json!(member);
    shown["leases"] = known.map(|_| runs.iter().filter_map(|run| run["leases"].as_u64()).sum::<u64>()).into();
    shown["links"] = all.filter(|id| names.get(id) == Some(&member.name.as_str())).count().into();
    shown["last_seen_seconds"] = runs.iter().filter_map(|run| run["last_seen_seconds"].as_u64()).min().into();
    shown["overdue"] = (!runs.is_empty() && runs.iter().all(|run| run["overdue"] == true)).into();
    shown
}

impl Console {
    /// The daemons with what each of them holds, and their database; null where there is one daemon.
    pub(super) fn daemons(&self, pulse: &Pulse) -> Value {
        let Some(fleet) = self.control.fleet() else { return Value::Null };
        let members: Vec<Value> = fleet.members().iter().map(|member| shown(member, pulse)).collect();
        json!({"members": members, "leases": BUCKETS, "database": fleet.database()})
    }

    /// The name of the daemon that holds the links of each page.
    pub(super) fn holders(&self) -> BTreeMap<String, String> {
        let pulse = self.pulse.borrow().clone();
        let names = names(&pulse.status);
        let links = pulse.pages["pages"].as_array().into_iter().flatten();
        let held = links.filter_map(|link| {
            Some((link["page_id"].as_str()?.to_owned(), (*names.get(&link["daemon"].as_u64()?)?).to_owned()))
        });
        held.collect()
    }

    /// Puts daemons that started, paused or ended into the feed, and the database likewise.
    pub(super) fn report_daemons(&self, before: &Value, now: &Value) {
        let members = |of: &Value| of["members"].as_array().cloned().unwrap_or_default();
        for (was, is) in members(before).iter().zip(&members(now)) {
            if (&was["state"], &was["pid"]) == (&is["state"], &is["pid"]) {
                continue;
            }
            let name = is["name"].as_str().unwrap_or_default();
            let (ok, what) = match is["state"].as_str() {
                Some("running") if was["state"] == "paused" => (true, "continues".to_owned()),
                Some("running") => (true, format!("runs, pid {}", is["pid"])),
                Some("paused") => (false, "is paused".to_owned()),
                _ => (is["how"] == "exit code 0", format!("ended: {}", is["how"].as_str().unwrap_or_default())),
            };
            self.world.tell(ActivityKind::Daemon, None, ok, format!("{name} {what}"));
        }
        if let (Some(was), Some(is)) = (before["database"]["runs"].as_bool(), now["database"]["runs"].as_bool())
            && was != is
        {
            self.world.tell(
                ActivityKind::Daemon,
                None,
                is,
                if is { "the database runs" } else { "the database ended" },
            );
        }
    }

    pub(super) async fn daemon_action(&self, OfDaemon { action, daemon }: OfDaemon) -> Answer {
        let done = match (self.control.fleet(), daemon) {
            (Some(fleet), Some(daemon)) => fleet.act(&daemon, action).await,
            (_, None) if action == MemberAction::Start => self.control.start().await,
            (_, None) if action == MemberAction::Kill => self.control.kill().await,
            (None, Some(_)) => Err("there is one daemon, which has no name".to_owned()),
            (_, None) => Err("name one of several daemons".to_owned()),
        };
        done.map_err(bad)?;
        Ok(json!({"daemon": self.control.state()}))
    }

    pub(super) async fn database_action(&self, OfDatabase { action }: OfDatabase) -> Answer {
        let fleet: &dyn FleetControl = self.control.fleet().ok_or_else(|| bad("there is no database"))?;
        fleet.switch_database(matches!(action, DatabaseAction::Start)).await.map_err(bad)?;
        Ok(json!({"database": fleet.database()}))
    }
}
