//! The timers of pages: each rings once, at its time, while its setting holds.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::clock;
use crate::actors::page::PageMsg;
use crate::actors::registry::PageHandle;
use crate::actors::shared::Shared;
use crate::actors::timers::{PageTimer, Timers};
use crate::core::model::{Cause, MonoTime};

/// Passes on the numbers that ring.
struct Ear;

impl Actor for Ear {
    type Msg = PageMsg;
    type State = mpsc::UnboundedSender<u64>;
    type Arguments = mpsc::UnboundedSender<u64>;

    async fn pre_start(
        &self,
        _me: ActorRef<PageMsg>,
        heard: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(heard)
    }

    async fn handle(
        &self,
        _me: ActorRef<PageMsg>,
        message: PageMsg,
        heard: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let PageMsg::Woke(number) = message {
            heard.send(number)?;
        }
        Ok(())
    }
}

/// Passes on that it was woken.
struct Wakes;

impl Actor for Wakes {
    type Msg = PageMsg;
    type State = mpsc::UnboundedSender<()>;
    type Arguments = mpsc::UnboundedSender<()>;

    async fn pre_start(
        &self,
        _me: ActorRef<PageMsg>,
        heard: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(heard)
    }

    async fn handle(
        &self,
        _me: ActorRef<PageMsg>,
        message: PageMsg,
        heard: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let PageMsg::Wake = message {
            heard.send(())?;
        }
        Ok(())
    }
}

async fn ear() -> (ActorRef<PageMsg>, mpsc::UnboundedReceiver<u64>) {
    let (sender, heard) = mpsc::unbounded_channel();
    (Actor::spawn(None, Ear, sender).await.unwrap().0, heard)
}

fn after(secs: u64) -> Option<MonoTime> {
    Some(MonoTime::now().plus(Duration::from_secs(secs)))
}

#[tokio::test]
async fn a_timer_that_is_set_again_rings_once_and_at_the_newer_time() {
    let _clock = clock::stop();
    let timers = Arc::<Timers>::default();
    let (page, mut heard) = ear().await;
    let mut timer = PageTimer::new(&timers);
    for (first, second) in [(10, 20), (20, 10), (10, 10)] {
        let began = Instant::now();
        timer.set(&page, after(first));
        timer.set(&page, after(second));
        let number = clock::passing(heard.recv()).await.unwrap();
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(second) && took < Duration::from_secs(second + 2), "{took:?}");
        assert!(timer.rings(number) && !timer.rings(number), "it counts once");
        clock::pass(Duration::from_secs(30)).await;
        assert!(heard.try_recv().is_err());
    }
}

#[tokio::test]
async fn a_message_that_was_under_way_when_the_timer_was_set_again_does_not_count() {
    let _clock = clock::stop();
    let timers = Arc::<Timers>::default();
    let (page, mut heard) = ear().await;
    let mut timer = PageTimer::new(&timers);
    timer.set(&page, after(1));
    let number = clock::passing(heard.recv()).await.unwrap();
    timer.set(&page, after(1));
    assert!(!timer.rings(number));
    let number = clock::passing(heard.recv()).await.unwrap();
    assert!(timer.rings(number));
}

#[tokio::test]
async fn a_timer_that_is_taken_back_or_dropped_does_not_ring() {
    let _clock = clock::stop();
    let timers = Arc::<Timers>::default();
    let (page, mut heard) = ear().await;
    let (mut unset, mut cancelled, mut dropped) =
        (PageTimer::new(&timers), PageTimer::new(&timers), PageTimer::new(&timers));
    unset.set(&page, after(1));
    unset.set(&page, None);
    cancelled.set(&page, after(1));
    cancelled.cancel();
    dropped.set(&page, after(1));
    drop(dropped);
    clock::pass(Duration::from_secs(10)).await;
    assert!(heard.try_recv().is_err());
}

#[tokio::test]
async fn thousands_of_timers_ring_in_the_order_of_their_times() {
    let _clock = clock::stop();
    let timers = Arc::<Timers>::default();
    let (page, mut heard) = ear().await;
    let mut all = Vec::new();
    for n in 0..2000 {
        let mut timer = PageTimer::new(&timers);
        timer.set(&page, after(1 + (n * 7) % 10));
        all.push(timer);
    }
    clock::pass(Duration::from_secs(20)).await;
    let mut numbers = Vec::new();
    clock::passing(heard.recv_many(&mut numbers, 4000)).await;
    assert_eq!(numbers.len(), 2000);
    // The n-th setting has the number n + 1.
    let second = |number: u64| ((number - 1) * 7) % 10;
    assert!(numbers.is_sorted_by_key(|number| second(*number)));
}

#[tokio::test]
async fn a_page_that_rests_is_woken_once_when_the_debounce_of_its_first_webhook_is_over() {
    let _clock = clock::stop();
    let shared = Arc::<Shared>::default();
    let (sender, mut heard) = mpsc::unbounded_channel();
    let page = PageHandle::new(Actor::spawn(None, Wakes, sender).await.unwrap().0);
    let debounce = Duration::from_secs(10);
    // A page that has not looked yet is woken at once.
    shared.hear_webhook(&page, debounce);
    clock::passing(heard.recv()).await.unwrap();
    assert!(page.take_reasons().causes().eq([Cause::Webhook]));
    page.set_plenty_at(MonoTime(0));
    for _ in 0..3 {
        let began = MonoTime::now();
        shared.hear_webhook(&page, debounce);
        clock::pass(Duration::from_secs(5)).await;
        shared.hear_webhook(&page, debounce);
        assert!(heard.try_recv().is_err());
        clock::passing(heard.recv()).await.unwrap();
        assert!(MonoTime::now().since(began) >= debounce);
        let reasons = page.take_reasons();
        assert!(reasons.heard_at.is_some_and(|at| at >= began && at.since(began) < Duration::from_secs(1)));
        assert_eq!(reasons.causes().count(), 0);
    }
    // One that has looked for another reason is left alone, and one whose debounce was made shorter is not forgotten.
    shared.hear_webhook(&page, debounce);
    assert!(page.take_reasons().heard_at.is_some());
    shared.hear_webhook(&page, debounce / 5);
    clock::passing(heard.recv()).await.unwrap();
    assert!(page.take_reasons().heard_at.is_some());
    clock::pass(Duration::from_secs(30)).await;
    assert!(heard.try_recv().is_err());
}
