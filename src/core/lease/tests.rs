//! Buckets are fixed, and however daemons come and go no bucket has two owners and none stays without one.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::core::model::UserId;

const NOW: WallTime = WallTime(1_800_000_000_000);

fn page(n: u64) -> PageId {
    n.to_string().parse().unwrap()
}

fn shop(name: &str) -> ShopName {
    format!("{name}.myshopify.com").parse().unwrap()
}

/// A link of another build must find its owner: these numbers never change.
#[test]
fn the_bucket_of_an_id_is_fixed() {
    let link = LinkKey::new(UserId::random(), page(123_456_789));
    let pinned = [
        bucket_of(&link),
        bucket_of_page(&page(1)),
        bucket_of_page(&page(2)),
        bucket_of_shop(&shop("some-shop")),
        bucket_of_person(&"77".parse().unwrap()),
        bucket_of_event(&EventKey::Deletion("0123456789abcdef0123456789abcdef".into())),
    ];
    assert_eq!(pinned, PINNED);
}

const PINNED: [u16; 6] = [127, 878, 667, 514, 456, 543];

/// The published vector of FNV-1a: the hash of "a".
#[test]
fn the_hash_is_fnv_1a() {
    assert_eq!((FNV_OFFSET ^ u64::from(b'a')).wrapping_mul(FNV_PRIME), 0xaf63_dc4c_8601_ec8c);
}

#[test]
fn what_belongs_together_lies_in_one_bucket() {
    let (page, shop) = (page(7), shop("some-shop"));
    for user in [UserId::random(), UserId::random()] {
        let (of_page, of_shop) = (LinkKey::new(user, page.clone()), LinkKey::of_shop(user, shop.clone()));
        let buckets = [
            bucket_of(&of_page),
            bucket_of_cleanup(&Cleanup::Unsubscribe(page.clone())),
            bucket_of_cleanup(&Cleanup::DeleteAgain(of_page.whole())),
            bucket_of_cleanup(&Cleanup::ForgetParts(of_page.clone())),
            bucket_of_event(&EventKey::Link(of_page)),
        ];
        assert_eq!(buckets, [bucket_of_page(&page); 5]);
        let buckets = [
            bucket_of(&of_shop),
            bucket_of_cleanup(&Cleanup::Uninstall(shop.clone())),
            bucket_of_cleanup(&Cleanup::Redact(shop.clone())),
            bucket_of_event(&EventKey::Link(of_shop)),
        ];
        assert_eq!(buckets, [bucket_of_shop(&shop); 4]);
    }
}

#[test]
fn the_buckets_of_many_ids_are_even() {
    let mut counts = [0u32; BUCKETS as usize];
    let base = 100_000_000_000_000u64;
    (0..102_400).for_each(|n| counts[usize::from(bucket_of_page(&page(base + n * 7)))] += 1);
    (0..102_400).for_each(|n| counts[usize::from(bucket_of_shop(&shop(&format!("shop-{n}"))))] += 1);
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(*least > 120 && *most < 290, "{least} to {most}, around 200");
}

#[test]
fn a_lease_survives_being_written_and_read() {
    let lease = Lease { owner: Some(7), epoch: 9, quiet_until: Some(NOW) };
    let text = serde_json::to_string(&lease).unwrap();
    assert_eq!(serde_json::from_str::<Lease>(&text).unwrap(), lease);
}

#[test]
fn a_daemon_alone_takes_all_at_once() {
    let me = Member { id: 3, alive: true, overdue: false };
    let Rebalance { changes, executed, surplus } = rebalance(&[], &[me], 3, NOW, WRITE_BOUND);
    assert_eq!(changes.len(), usize::from(BUCKETS));
    assert!(changes.iter().all(|(_, lease)| *lease == Lease { owner: Some(3), epoch: 1, quiet_until: None }));
    assert!(executed.is_empty() && surplus.is_empty());
}

#[test]
fn an_execution_makes_quiet_and_a_release_does_not() {
    let held = Lease { owner: Some(1), epoch: 4, quiet_until: None };
    let leases = vec![held; usize::from(BUCKETS)];
    let members = [Member { id: 1, alive: true, overdue: true }, Member { id: 2, alive: true, overdue: false }];
    let Rebalance { changes, executed, .. } = rebalance(&leases, &members, 2, NOW, WRITE_BOUND);
    let quiet_until = Some(NOW.plus(Duration::from_secs(35)));
    assert_eq!(executed, [1]);
    assert_eq!(changes[0], (0, Lease { owner: Some(2), epoch: 6, quiet_until }));
    assert_eq!(changes.len(), usize::from(BUCKETS));
    assert_eq!(held.released(), Lease { owner: None, epoch: 4, quiet_until: None });
    // A quiet time is inherited, and none makes it shorter.
    let inherited = changes[0].1;
    assert_eq!(inherited.released().quiet_until, quiet_until);
    assert_eq!(inherited.freed(WallTime(NOW.0 - 60_000), WRITE_BOUND).quiet_until, quiet_until);
}

#[test]
fn a_deadline_counts_from_before_the_beat_on_both_clocks() {
    let deadline = Deadline::of_beat(MonoTime(10_000), NOW);
    let at = |ms: u64| WallTime(NOW.0 + ms);
    assert!(deadline.is_ahead(MonoTime(13_999), at(3_999)));
    assert!(!deadline.is_ahead(MonoTime(14_000), at(0)), "the wall clock was set back");
    assert!(!deadline.is_ahead(MonoTime(10_001), at(60_000)), "the machine slept");
    assert!(!Deadline::default().is_ahead(MonoTime(1), WallTime(1)), "there was no beat yet");
    let earlier = Deadline::of_beat(MonoTime(9_000), NOW);
    assert_eq!((earlier.latest(deadline), deadline.latest(earlier)), (deadline, deadline));
}

/// A cluster, without a database.
#[derive(Debug, Clone)]
struct Cluster {
    leases: Vec<Lease>,
    members: Vec<Member>,
    now: WallTime,
}

impl Cluster {
    fn new() -> Cluster {
        Cluster { leases: vec![Lease::default(); usize::from(BUCKETS)], members: Vec::new(), now: NOW }
    }

    fn is_born(&mut self) -> u64 {
        let id = self.members.len() as u64 + 1;
        self.members.push(Member { id, alive: true, overdue: false });
        id
    }

    fn living(&self) -> Vec<u64> {
        self.members.iter().filter(|member| member.lives()).map(|member| member.id).collect()
    }

    fn owned(&self) -> BTreeMap<u64, usize> {
        let mut owned = BTreeMap::new();
        self.leases.iter().filter_map(|lease| lease.owner).for_each(|owner| *owned.entry(owner).or_default() += 1);
        owned
    }

    /// One beat. What is surplus is released at once, or stays because its work goes on.
    fn beat(&mut self, me: u64, releases: bool) {
        let before = self.leases.clone();
        let Rebalance { changes, executed, surplus } =
            rebalance(&self.leases, &self.members, me, self.now, WRITE_BOUND);
        let may_act = self.living().contains(&me);
        assert!(may_act || (changes.is_empty() && executed.is_empty() && surplus.is_empty()));
        for (bucket, after) in changes {
            let before = before[usize::from(bucket)];
            assert!(after.epoch > before.epoch, "epochs rise");
            assert!(after.quiet_until >= before.quiet_until);
            if let Some(owner) = before.owner {
                assert!(!self.living().contains(&owner), "nothing is taken from the living");
                assert_eq!(after.quiet_until, Some(self.now.plus(WRITE_BOUND + QUIET_MARGIN)));
            }
            assert!(after.owner.is_none_or(|owner| owner == me));
            self.leases[usize::from(bucket)] = after;
        }
        self.members.iter_mut().filter(|member| executed.contains(&member.id)).for_each(|member| member.alive = false);
        assert!(surplus.len() <= SURPLUS_AT_ONCE);
        for bucket in surplus.into_iter().filter(|_| releases) {
            let lease = &mut self.leases[usize::from(bucket)];
            assert_eq!(lease.owner, Some(me), "only its own is surplus");
            *lease = lease.released();
        }
        // Beats are a second apart, and each member makes one in it.
        self.now = self.now.plus(Duration::from_millis(100));
    }

    fn round(&mut self) {
        self.living().into_iter().for_each(|id| self.beat(id, true));
    }

    /// Rounds until nothing moves any more, of which a minute has enough.
    fn settle(&mut self) {
        for _ in 0..60 {
            let before = self.leases.clone();
            self.round();
            if self.leases == before {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn assert_even(&self) {
        let (living, owned) = (self.living(), self.owned());
        if living.is_empty() {
            return;
        }
        let share = usize::from(BUCKETS).div_ceil(living.len());
        assert_eq!(owned.values().sum::<usize>(), usize::from(BUCKETS), "all are owned");
        for id in &living {
            let own = owned.get(id).copied().unwrap_or_default();
            assert!(own <= share, "{id} owns {own} of at most {share}");
        }
        // Shares are rounded up, so that one or the other falls short.
        let short: usize = living.iter().map(|id| share - owned.get(id).copied().unwrap_or_default()).sum();
        assert_eq!(short, share * living.len() - usize::from(BUCKETS));
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Birth,
    Silence(usize),
    Recovery(usize),
    Stop(usize),
    Beat(usize, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => Just(Step::Birth),
        1 => any::<usize>().prop_map(Step::Silence),
        1 => any::<usize>().prop_map(Step::Recovery),
        1 => any::<usize>().prop_map(Step::Stop),
        8 => any::<(usize, bool)>().prop_map(|(n, releases)| Step::Beat(n, releases)),
    ];
    prop::collection::vec(step, 1..40)
}

impl Cluster {
    fn apply(&mut self, step: Step) {
        let count = self.members.len();
        match step {
            Step::Birth if count < 9 => _ = self.is_born(),
            Step::Silence(n) if count > 0 => self.members[n % count].overdue = true,
            // A beat that came just in time.
            Step::Recovery(n) if count > 0 && self.members[n % count].alive => self.members[n % count].overdue = false,
            Step::Stop(n) if count > 0 => {
                let id = self.members[n % count].id;
                if self.living().contains(&id) {
                    let own = self.leases.iter_mut().filter(|lease| lease.owner == Some(id));
                    own.for_each(|lease| *lease = lease.released());
                    self.members[n % count].alive = false;
                }
            }
            Step::Beat(n, releases) if count > 0 => self.beat(self.members[n % count].id, releases),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn however_daemons_come_and_go_all_buckets_end_up_evenly_owned(steps in steps()) {
        let mut cluster = Cluster::new();
        steps.into_iter().for_each(|step| cluster.apply(step));
        cluster.settle();
        cluster.assert_even();
        // Nothing moves once it is even.
        let before = cluster.leases.clone();
        cluster.round();
        prop_assert_eq!(before, cluster.leases);
    }

    #[test]
    fn after_a_death_one_round_owns_all_again(count in 2usize..8, dead in any::<usize>()) {
        let mut cluster = Cluster::new();
        (0..count).for_each(|_| _ = cluster.is_born());
        cluster.settle();
        cluster.members[dead % count].overdue = true;
        cluster.round();
        cluster.assert_even();
        prop_assert!(!cluster.members[dead % count].alive, "it was executed");
    }

    #[test]
    fn a_newcomer_empties_nobody_at_once(count in 1usize..8) {
        let mut cluster = Cluster::new();
        (0..count).for_each(|_| _ = cluster.is_born());
        cluster.settle();
        let newcomer = cluster.is_born();
        let before = cluster.owned();
        cluster.round();
        let after = cluster.owned();
        for (id, owned) in before {
            prop_assert!(owned - after[&id] <= SURPLUS_AT_ONCE);
        }
        cluster.settle();
        prop_assert!(cluster.owned()[&newcomer] > 0);
        cluster.assert_even();
    }
}
