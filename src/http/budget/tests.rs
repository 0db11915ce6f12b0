use super::*;

const MIB: usize = 1 << 20;

fn pool() -> Arc<Pool> {
    Arc::new(Pool::new(64 * MIB))
}

/// A body that received all of its charge `ago`.
async fn body(pool: &Arc<Pool>, bytes: usize, ago: Duration) -> Result<Share, Crowded> {
    let mut share = Share::new(pool.clone());
    share.received(bytes, Instant::now() - ago);
    share.grow(bytes).await?;
    Ok(share)
}

fn used(pool: &Pool) -> usize {
    pool.lock().used
}

#[tokio::test]
async fn a_body_that_stalled_is_cut_for_one_that_arrives() {
    let pool = pool();
    let mut stalled = Vec::new();
    for n in 0..16 {
        stalled.push(body(&pool, 4 * MIB, Duration::from_secs(1 + n)).await.unwrap());
    }
    assert_eq!(used(&pool), 64 * MIB);
    let mut fresh = body(&pool, MIB, Duration::ZERO).await.unwrap();
    let cut: Vec<bool> = stalled.iter().map(|share| share.cut.is_cancelled()).collect();
    assert_eq!(cut.iter().position(|cut| *cut), Some(15), "the one that is silent for longest");
    assert_eq!(cut.iter().filter(|cut| **cut).count(), 1, "and no other");
    assert_eq!(fresh.complete(), Ok(()));
    assert_eq!(stalled[15].complete(), Err(Crowded), "its memory is another's");
    assert_eq!(stalled[15].grow(5 * MIB).await, Err(Crowded));
    drop((fresh, stalled));
    assert_eq!(used(&pool), 0);
}

#[tokio::test]
async fn one_that_drips_is_cut_before_a_small_delivery_on_a_slow_way() {
    let pool = pool();
    let mut dripping = Vec::new();
    for _ in 0..64 {
        dripping.push(body(&pool, MIB, Duration::from_secs(3)).await.unwrap());
    }
    dripping.iter_mut().for_each(|share| share.received(1, Instant::now()));
    // Seventy KiB came over the last 300 ms, the latest a while ago.
    let mut slow = Share::new(pool.clone());
    for n in 0..7 {
        slow.received(10 << 10, Instant::now() - Duration::from_millis(400 - 50 * n));
    }
    assert_eq!(slow.grow(64 << 10).await, Ok(()));
    assert_eq!(dripping.iter().filter(|share| share.cut.is_cancelled()).count(), 1);
}

#[tokio::test]
async fn a_large_body_is_cut_before_a_small_one_of_the_same_pace() {
    let pool = pool();
    let now = Duration::ZERO;
    let small = body(&pool, 128 << 10, now).await.unwrap();
    let mut large = Vec::new();
    for _ in 0..15 {
        let mut share = body(&pool, 128 << 10, now).await.unwrap();
        share.grow(4 * MIB).await.unwrap();
        large.push(share);
    }
    let _rest = body(&pool, 64 * MIB - used(&pool), now).await.unwrap();
    let _one_more = body(&pool, 128 << 10, now).await.unwrap();
    assert!(!small.cut.is_cancelled());
    assert_eq!(large.iter().filter(|share| share.cut.is_cancelled()).count(), 1);
}

#[tokio::test]
async fn the_slowest_of_all_is_refused_itself() {
    let pool = pool();
    let others = [body(&pool, 60 * MIB, Duration::ZERO).await.unwrap()];
    assert_eq!(body(&pool, 8 * MIB, Duration::from_secs(9)).await.err(), Some(Crowded));
    assert!(!others[0].cut.is_cancelled());
    assert_eq!(used(&pool), 60 * MIB);
}

#[tokio::test]
async fn memory_of_bodies_that_are_whole_is_waited_for() {
    let pool = pool();
    let mut whole = body(&pool, 60 * MIB, Duration::from_secs(60)).await.unwrap();
    whole.complete().unwrap();
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { body(&pool, 8 * MIB, Duration::ZERO).await.map(drop) }
    });
    while pool.lock().reading.is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    drop(whole);
    assert_eq!(waiting.await.unwrap(), Ok(()));
    assert_eq!(used(&pool), 0);
}

#[tokio::test]
async fn two_imports_of_the_largest_size_take_turns() {
    let first = Budget::Import.enter(64 * MIB).await.unwrap();
    let second = tokio::spawn(Budget::Import.enter(64 * MIB));
    // Neither keeps an operator's other requests waiting.
    drop(Budget::Operator.enter(MIB).await.unwrap());
    assert!(!second.is_finished());
    drop(first);
    assert!(second.await.unwrap().is_ok());
}
