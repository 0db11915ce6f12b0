//! What the sandbox says when everything runs.

use std::path::Path;

use crate::sandbox::WorldServer;
use crate::sandbox::console::FleetControl;
use crate::sandbox::fleet::Fleet;

/// What there is to say.
pub(super) struct Welcome<'a> {
    pub dir: &'a Path,
    /// The console's URL.
    pub console: &'a str,
    /// The public address.
    pub http: &'a str,
    pub world: &'a WorldServer,
    /// Where there are several daemons.
    pub fleet: Option<&'a Fleet>,
    pub keep: bool,
    /// How a daemon is asked.
    pub status: &'a str,
}

impl Welcome<'_> {
    pub(super) fn text(&self) -> String {
        let Welcome { dir, console, http: _, world, fleet, keep, status } = self;
        let (pages, shown) = (world.world.look(|s| s.pages.len()), dir.display());
        let real = match fleet {
            Some(fleet) => format!("{} real daemons on one database", fleet.all().len()),
            None => "the real daemon".to_owned(),
        };
        let mut lines = vec![
            format!(
                "pagesyncd sandbox: a local Facebook with {pages} pages, a local Shopify, a local Spaces, and {real}\n"
            ),
            format!("  console    {console}"),
        ];
        lines.extend(self.daemons());
        lines.extend([
            format!("  facebook   {}", world.graph_url),
            format!("  shopify    {}", world.shopify.url()),
            format!("  spaces     {}   objects in {shown}/spaces", world.spaces_endpoint),
            format!("  events     {}", world.notify_url),
        ]);
        lines.extend(self.logs());
        let (count, kill) = match fleet {
            Some(_) => ("Five", "it recover"),
            None => ("Four", "it recover; kill the daemon in between"),
        };
        lines.extend([
            format!("\n{count} things to do:"),
            format!("  1. open {console} and press “Log in with Facebook”"),
            "  2. edit a page's name there, and watch the webhook arrive and the object change".to_owned(),
            "  3. under Shops, install the app on a shop, edit a product, and watch its object and the index change"
                .to_owned(),
            format!("  4. switch a fault on, edit again, switch it off, and watch {kill}"),
        ]);
        if fleet.is_some() {
            lines.push(
                "  5. under Daemons, kill one and watch the others take its leases; stop the database".to_owned(),
            );
        }
        let (who, end) = (
            if fleet.is_some() { "a daemon" } else { "the daemon" },
            if *keep { "keeps the folder" } else { "removes what it made" },
        );
        lines.push(format!("\nAsk {who} yourself: {status}"));
        lines.push(format!("Ctrl-C ends it and {end}."));
        lines.join("\n")
    }

    fn daemons(&self) -> Vec<String> {
        let Some(fleet) = self.fleet else { return vec![format!("  daemon     http://{}", self.http)] };
        let mut lines = vec![format!("  daemons    http://{}   passes each request on to one of them:", self.http)];
        lines.extend(fleet.members().iter().map(|daemon| format!("    {} http://{}", daemon.name, daemon.address)));
        lines.push(format!("  database   {}, PostgreSQL in {}/postgres", fleet.database().address, self.dir.display()));
        lines
    }

    fn logs(&self) -> Vec<String> {
        let dir = self.dir.display();
        match self.fleet {
            Some(_) => vec![format!("  logs       {dir}/daemon-*/daemon.log, {dir}/postgres/log")],
            None => vec![format!("  daemon log {dir}/daemon.log")],
        }
    }
}
