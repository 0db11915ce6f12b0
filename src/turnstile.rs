//! A limit on how much goes on at once, with an order for the rest: [`Turns`] behind a lock, and turns that give
//! themselves back.
//!
//! There are two ways through. A task that has begun awaits its turn ([`Turnstile::enter`]). Work that has not begun
//! leaves a closure that begins it ([`Turnstile::ask`]): what waits then is that closure, some bytes in size, and no
//! task, no future and nothing that the work acquires first. The pages of links take the second way, so that a hundred
//! thousand reads may wait for the source and cost no memory to speak of.
//!
//! A turn travels to its taker as a value that gives itself back when it is dropped. So a taker who is gone, even in the
//! moment in which the turn is handed over, keeps nothing: the turn is dropped with the message and goes to the next.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::core::priority::Priority;
use crate::core::turns::{Ticket, Turns};

/// Takes the turn of one who waited.
type Taker = Box<dyn FnOnce(Turn) + Send>;

/// The turnstile.
pub struct Turnstile {
    state: Mutex<State>,
}

struct State {
    turns: Turns<Taker>,
    /// Somebody hands out turns at this moment, and sees those that are given back meanwhile.
    handing_out: bool,
}

/// The right to go on. Dropping it lets the next in.
pub struct Turn {
    turnstile: Arc<Turnstile>,
}

/// One more turn than there are. Dropping it takes that turn back; one who took it goes on to its end.
#[must_use]
pub struct Loan {
    turnstile: Arc<Turnstile>,
}

/// A place in the queue. Dropping it leaves the queue.
pub struct Waiting {
    turnstile: Arc<Turnstile>,
    ticket: Ticket,
}

impl Turnstile {
    /// A turnstile that lets `max` through at once (at least one).
    pub fn new(max: usize) -> Arc<Turnstile> {
        Arc::new(Turnstile { state: Mutex::new(State { turns: Turns::new(max), handing_out: false }) })
    }

    /// Changes how many may be through at once, from now on.
    pub fn set_max(self: &Arc<Self>, max: usize) {
        self.lock().turns.set_max(max);
        self.hand_out();
    }

    /// How many may be through at once.
    pub fn max(&self) -> usize {
        self.lock().turns.max()
    }

    /// How many are through.
    pub fn taken(&self) -> usize {
        self.lock().turns.taken()
    }

    /// How many wait for this priority.
    pub fn waiting(&self, priority: Priority) -> usize {
        self.lock().turns.waiting(priority)
    }

    /// A turn at once, or else a place in the queue. `taker` is called with the turn when it comes. It must only pass the
    /// turn on, since it is called within the end of another's turn.
    ///
    /// # Errors
    /// [`Waiting`] when all turns are taken.
    pub fn ask(
        self: &Arc<Self>,
        priority: Priority,
        taker: impl FnOnce(Turn) + Send + 'static,
    ) -> Result<Turn, Waiting> {
        let mut state = self.lock();
        if state.turns.take() {
            return Ok(Turn { turnstile: self.clone() });
        }
        let ticket = state.turns.wait(priority, Box::new(taker));
        Err(Waiting { turnstile: self.clone(), ticket })
    }

    /// Lets one more through, for as long as one who is through can do nothing.
    pub fn lend(self: &Arc<Self>) -> Loan {
        self.lock().turns.lend();
        let loan = Loan { turnstile: self.clone() };
        self.hand_out();
        loan
    }

    /// Waits for a turn.
    pub async fn enter(self: &Arc<Self>, priority: Priority) -> Turn {
        loop {
            let (sender, receiver) = oneshot::channel();
            // Refused where nobody waits any more: the turn is dropped, and goes on to the next.
            let asked = self.ask(priority, |turn| drop(sender.send(turn)));
            let _waiting = match asked {
                Ok(turn) => return turn,
                Err(waiting) => waiting,
            };
            if let Ok(turn) = receiver.await {
                return turn;
            }
        }
    }

    /// Gives free turns to those who wait. The lock is let go before a taker is called, since a turn that nobody takes
    /// is dropped within that call. Such a turn is handed on by the loop that is under way, and not by one within it: a
    /// queue of takers who are gone needs no stack.
    fn hand_out(self: &Arc<Self>) {
        if std::mem::replace(&mut self.lock().handing_out, true) {
            return;
        }
        while let Some(taker) = self.next() {
            taker(Turn { turnstile: self.clone() });
        }
    }

    /// The taker whose turn has come; none ends the handing out.
    fn next(&self) -> Option<Taker> {
        let mut state = self.lock();
        let next = state.turns.admit();
        state.handing_out = next.is_some();
        next
    }

    /// What is behind the lock is plain counting that no panic leaves half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turnstile.lock().turns.give_back();
        self.turnstile.hand_out();
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.turnstile.lock().turns.end_loan();
    }
}

impl Waiting {
    /// Goes to the end of the prompt queue, if it waits in the background one.
    pub fn raise(&mut self) {
        self.ticket = self.turnstile.lock().turns.raise(self.ticket);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Bound to a name, so that what the taker holds is dropped after the lock.
        let _taker = self.turnstile.lock().turns.leave(self.ticket);
    }
}

impl fmt::Debug for Turnstile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turnstile").field("max", &self.max()).field("taken", &self.taken()).finish()
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turn")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_closure_waits_and_begins_when_its_turn_has_come() {
        let turnstile = Turnstile::new(1);
        let (sender, taken) = mpsc::channel();
        let first = turnstile.ask(Priority::Prompt, |_| ()).ok().unwrap();
        let waiting = turnstile.ask(Priority::Background, move |turn| sender.send(turn).unwrap()).err().unwrap();
        assert!(taken.try_recv().is_err());
        drop(first);
        let turn = taken.try_recv().unwrap();
        drop(waiting);
        assert_eq!((turnstile.taken(), turnstile.waiting(Priority::Background)), (1, 0));
        drop(turn);
        assert_eq!(turnstile.taken(), 0);
    }

    #[test]
    fn a_place_that_is_dropped_is_given_up() {
        let turnstile = Turnstile::new(1);
        let first = turnstile.ask(Priority::Prompt, |_| ()).ok().unwrap();
        let waiting = turnstile.ask(Priority::Prompt, |_| panic!("nobody waits here")).err().unwrap();
        drop(waiting);
        drop(first);
        assert_eq!(turnstile.taken(), 0);
    }

    #[test]
    fn any_number_of_takers_who_are_gone_are_passed_over() {
        let turnstile = Turnstile::new(1);
        let first = turnstile.ask(Priority::Prompt, |_| ()).ok().unwrap();
        let places: Vec<Waiting> = (0..200_000).filter_map(|_| turnstile.ask(Priority::Prompt, drop).err()).collect();
        assert_eq!(turnstile.waiting(Priority::Prompt), places.len());
        drop(first);
        assert_eq!((turnstile.taken(), turnstile.waiting(Priority::Prompt)), (0, 0));
        assert!(turnstile.ask(Priority::Prompt, drop).is_ok());
    }
}
