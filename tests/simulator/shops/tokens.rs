//! The token of a shop: the steps of `src/services/shop_tokens.rs` without HTTP, around the store's own decisions.

use std::rc::Rc;

use pagesyncd::core::model::{Secret, WallTime};
use pagesyncd::core::park_reason::ParkReason;
use pagesyncd::core::shop_refresh::{Need, Refused, end_of, need, why};
use pagesyncd::store::shops::{NewShop, PairState, ShopPair};
use pagesyncd::store::stepped::shown;
use tokio::sync::oneshot;

use super::process::Process;
use super::shopify::{Failed, Tokens};
use super::world::World;

/// An access token by its number at Shopify, and the number of its pair in the store.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    pub token: u64,
    pub pair: u64,
}

/// The number at Shopify of a pair.
fn number(state: &PairState) -> u64 {
    let pair = state.pair.as_ref().expect("it opens");
    pair.refresh.expose()[1..].parse().expect("a number")
}

pub fn new_shop(world: &World, shop: usize, tokens: Tokens) -> NewShop {
    NewShop {
        shop: world.names[shop].clone(),
        pair: ShopPair {
            access: Secret::new(format!("a{}", tokens.number)),
            refresh: Secret::new(format!("r{}", tokens.number)),
        },
        expires_at: WallTime(tokens.ends_at),
        refresh_expires_at: None,
        scopes: Vec::new(),
        name: None,
    }
}

impl Process {
    async fn held(&self, world: &World, shop: usize) -> Result<PairState, Failed> {
        let state = self.store.shop_pair(&world.names[shop]).await.map_err(|_| Failed::Local)?;
        state.ok_or(Failed::Local)
    }

    /// A token for a call.
    pub async fn access_token(self: &Rc<Self>, world: &Rc<World>, shop: usize) -> Result<Access, Failed> {
        self.token(world, shop, None).await
    }

    async fn token(self: &Rc<Self>, world: &Rc<World>, shop: usize, refused: Option<u64>) -> Result<Access, Failed> {
        let state = self.held(world, shop).await?;
        if need(state.standing(), refused, world.wall()) == Need::None {
            return Ok(Access { token: number(&state), pair: state.record.number });
        }
        // In a task of its own, which ends whether or not the caller still waits.
        let (answer, answered) = oneshot::channel();
        let (process, world) = (self.clone(), world.clone());
        world.executor.spawn(self.life, {
            let world = world.clone();
            async move {
                // The caller may have stopped waiting.
                let _ = answer.send(process.refreshed(&world, shop, refused).await);
            }
        });
        answered.await.unwrap_or(Err(Failed::Local))
    }

    async fn refreshed(
        self: &Rc<Self>,
        world: &Rc<World>,
        shop: usize,
        refused: Option<u64>,
    ) -> Result<Access, Failed> {
        let turn = self.turn(shop);
        let _turn = turn.lock().await;
        // Somebody may have refreshed it meanwhile.
        let state = self.held(world, shop).await?;
        let need = need(state.standing(), refused, world.wall());
        let standing = Access { token: number(&state), pair: state.record.number };
        if need == Need::None {
            return Ok(standing);
        }
        match self.exchange(world, shop, &state, refused).await {
            Err(Failed::Retry | Failed::Throttled(_) | Failed::Local) if need == Need::Soon => Ok(standing),
            answer => answer,
        }
    }

    async fn exchange(
        self: &Rc<Self>,
        world: &Rc<World>,
        shop: usize,
        state: &PairState,
        refused: Option<u64>,
    ) -> Result<Access, Failed> {
        let (name, stored) = (world.names[shop].clone(), state.record.number);
        if !self.store.begin_refresh(&name, stored).await.map_err(|_| Failed::Local)? {
            return Err(Failed::Local);
        }
        let tokens = match world.refresh(shop, number(state)).await {
            Ok(tokens) => tokens,
            Err(Failed::RefreshEnded) => {
                let refused = Refused { access_too: refused == Some(stored), is_lost: false };
                let why = why(ParkReason::RefreshEnded, refused);
                self.park(world, shop, stored, why).await;
                return Err(Failed::RefreshEnded);
            }
            Err(failed) => return Err(failed),
        };
        world.note(|| format!("shop {shop}: refreshed, {tokens:?}"));
        let new = new_shop(world, shop, tokens);
        let new = NewShop { expires_at: end_of(new.expires_at, state.record.refreshing_since, world.wall()), ..new };
        let pair = self.store.end_refresh(&name, stored, &new).await.map_err(|_| Failed::Local)?;
        Ok(Access { token: tokens.number, pair: pair.ok_or(Failed::Local)? })
    }

    /// Parks every link of a shop. A pair that Shopify would still exchange must not be parked for.
    async fn park(&self, world: &World, shop: usize, pair: u64, why: ParkReason) {
        let name = &world.names[shop];
        let state = self.store.shop_pair(name).await.ok().flatten().filter(|state| state.record.number == pair);
        world.note(|| format!("shop {shop}: parked for {why:?}"));
        if let Some(state) = state {
            let shops = world.shops.borrow();
            let app = &shops[shop].app;
            if app.exchanges(number(&state)) {
                world.fail(format!("shop {shop}: parked for {why:?}, and its refresh token works"));
            }
        }
        world.figures.borrow_mut().parked += 1;
        // If that cannot be persisted, the token is tried once more later.
        let _ = self.store.park_shop(name, pair, why).await;
    }

    /// The token of a link is checked, as the page does when a loop was refused.
    pub async fn check(self: Rc<Self>, world: Rc<World>, l: usize) {
        let shop = world.shop_of(l);
        let Ok(access) = self.access_token(&world, shop).await else { return };
        if world.ask_shop(shop, access.token).await != Err(Failed::Refused) {
            return;
        }
        // The refresh parks the links if it is refused as well.
        let _ = self.token(&world, shop, Some(access.pair)).await;
    }
}

impl World {
    /// The pair that a power cut at this moment would leave brings another one.
    pub fn check_pairs(&self) {
        let mut shops = self.shops.borrow_mut();
        if !shops.iter_mut().fold(false, |changed, shop| std::mem::take(&mut shop.app.is_changed) | changed) {
            return;
        }
        let Some(on_disk) = self.committer.borrow().as_ref().map(|committer| committer.on_disk()) else { return };
        for (l, link) in self.links.iter().enumerate() {
            // A link has the access token of its shop's pair.
            let Some(link) = shown(on_disk.link(link)) else { continue };
            let pair = link.token.expect("it opens").expose()[1..].parse().expect("a number");
            let app = &shops[self.shop_of(l)].app;
            if app.installed && !app.orphaned && !app.exchanges(pair) {
                self.fail(format!("link {l}: pair {pair} is on disk, Shopify has {app:?}"));
            }
        }
    }
}
