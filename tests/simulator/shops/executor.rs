//! Tasks in virtual time: one thread, one clock, and chance decides which of the tasks that can go on does.
//!
//! A task belongs to a life of the process, and ends with it, or to the outside. It may be ended from elsewhere at any
//! point at which it waits, which is where the daemon's tasks can end too.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// The life of tasks that no process owns.
pub const OUTSIDE: u64 = 0;

type Work = Pin<Box<dyn Future<Output = ()>>>;
type Ready = Arc<Mutex<BTreeSet<u64>>>;

struct Task {
    life: u64,
    /// Away while it is polled.
    work: Option<Work>,
}

struct TaskWaker {
    task: u64,
    ready: Ready,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).insert(self.task);
    }
}

/// The tasks, and the clock.
#[derive(Default)]
pub struct Executor {
    now: Cell<u64>,
    numbers: Cell<u64>,
    tasks: RefCell<BTreeMap<u64, Task>>,
    ready: Ready,
    timers: RefCell<BTreeMap<(u64, u64), Waker>>,
}

impl Executor {
    /// Milliseconds of virtual time.
    pub fn now(&self) -> u64 {
        self.now.get()
    }

    pub fn set_now(&self, now: u64) {
        self.now.set(now);
    }

    /// A number that was not given before.
    pub fn fresh(&self) -> u64 {
        self.numbers.set(self.numbers.get() + 1);
        self.numbers.get()
    }

    fn ready(&self) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a task, and returns its number.
    pub fn spawn(&self, life: u64, work: impl Future<Output = ()> + 'static) -> u64 {
        let number = self.fresh();
        self.tasks.borrow_mut().insert(number, Task { life, work: Some(Box::pin(work)) });
        self.ready().insert(number);
        number
    }

    /// Ends a task where it waits.
    pub fn end(&self, number: u64) {
        // What it holds is dropped when the tasks are not borrowed any more.
        let task = self.tasks.borrow_mut().remove(&number);
        drop(task);
    }

    /// Ends all tasks of a life.
    pub fn end_life(&self, life: u64) {
        let numbers: Vec<u64> = self.tasks.borrow().iter().filter(|(_, t)| t.life == life).map(|(n, _)| *n).collect();
        numbers.into_iter().for_each(|number| self.end(number));
    }

    /// Ends everything.
    pub fn clear(&self) {
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        drop(tasks);
        self.timers.borrow_mut().clear();
    }

    /// Does this task go on?
    pub fn is_alive(&self, number: u64) -> bool {
        self.tasks.borrow().contains_key(&number)
    }

    /// One of the tasks that can go on does, the one that `choose` picks of so many; or the clock goes to the next
    /// timer, if that is not behind `until`. `false` when neither is possible.
    pub fn step(&self, until: u64, choose: impl FnOnce(usize) -> usize) -> bool {
        let next = {
            let mut ready = self.ready();
            let number = ready.iter().nth(choose(ready.len().max(1))).copied();
            number.inspect(|number| assert!(ready.remove(number)))
        };
        match next {
            Some(number) => self.poll(number),
            None => return self.ring(until),
        }
        true
    }

    fn poll(&self, number: u64) {
        let work = self.tasks.borrow_mut().get_mut(&number).and_then(|task| task.work.take());
        let Some(mut work) = work else { return };
        let waker = Waker::from(Arc::new(TaskWaker { task: number, ready: self.ready.clone() }));
        let is_over = work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let mut tasks = self.tasks.borrow_mut();
        if is_over {
            let task = tasks.remove(&number);
            drop(tasks);
            drop((task, work));
        } else if let Some(task) = tasks.get_mut(&number) {
            task.work = Some(work);
        } else {
            // It was ended while it was polled.
            drop(tasks);
            drop(work);
        }
    }

    /// The next timer rings.
    fn ring(&self, until: u64) -> bool {
        let Some((at, _)) = self.timers.borrow().keys().next().copied().filter(|(at, _)| *at <= until) else {
            return false;
        };
        self.now.set(at.max(self.now.get()));
        loop {
            let first = self.timers.borrow_mut().first_entry().filter(|entry| entry.key().0 <= at).map(|e| e.remove());
            match first {
                Some(waker) => waker.wake(),
                None => return true,
            }
        }
    }

    fn add_timer(&self, at: u64, waker: Waker) -> (u64, u64) {
        let key = (at, self.fresh());
        self.timers.borrow_mut().insert(key, waker);
        key
    }

    fn remove_timer(&self, key: (u64, u64)) {
        self.timers.borrow_mut().remove(&key);
    }
}

/// Waits until a moment.
pub struct Sleep {
    executor: std::rc::Rc<super::world::World>,
    until: u64,
    timer: Option<(u64, u64)>,
}

impl Sleep {
    pub fn until(world: &std::rc::Rc<super::world::World>, until: u64) -> Sleep {
        Sleep { executor: world.clone(), until, timer: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.take();
        let executor = &self.executor.executor;
        timer.into_iter().for_each(|timer| executor.remove_timer(timer));
        if executor.now() >= self.until {
            return Poll::Ready(());
        }
        let timer = executor.add_timer(self.until, context.waker().clone());
        self.timer = Some(timer);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            self.executor.executor.remove_timer(timer);
        }
    }
}
