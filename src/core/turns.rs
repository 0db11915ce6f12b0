//! A number of turns, and who waits for one, in two queues. Pure.
//!
//! Prompt work goes first, but after [`PROMPT_RUN`] of those one of the background queue, so that the poll is delayed
//! and never starved. Within a queue, the order is that of asking.
//!
//! A waiter is whatever the caller needs in order to find the one who asked. Each has a ticket, by which it leaves its
//! queue. So the queues hold those alone who still wait.

use std::collections::BTreeMap;

use super::priority::Priority;

/// This many prompt turns in succession, then one of the background queue.
const PROMPT_RUN: u32 = 8;

/// The place of a waiter in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(Priority, u64);

/// The turns, and those who wait.
#[derive(Debug)]
pub struct Turns<W> {
    max: usize,
    /// Turns that are lent for a while, beside those.
    lent: usize,
    taken: usize,
    prompt: BTreeMap<u64, W>,
    background: BTreeMap<u64, W>,
    /// Prompt turns since the last one of the background queue.
    run: u32,
    tickets: u64,
}

impl<W> Turns<W> {
    /// So many turns (at least one), all of them free.
    pub fn new(max: usize) -> Self {
        let (prompt, background) = (BTreeMap::new(), BTreeMap::new());
        Turns { max: max.max(1), lent: 0, taken: 0, prompt, background, run: 0, tickets: 0 }
    }

    /// Changes how many there are. When there are fewer, those that are taken are not disturbed.
    pub fn set_max(&mut self, max: usize) {
        self.max = max.max(1);
    }

    /// How many there are.
    pub fn max(&self) -> usize {
        self.max
    }

    /// One more may be taken, until [`Turns::end_loan`].
    pub fn lend(&mut self) {
        self.lent += 1;
    }

    /// What was lent is not taken again, once it is given back.
    pub fn end_loan(&mut self) {
        self.lent = self.lent.saturating_sub(1);
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// How many wait for this priority.
    pub fn waiting(&self, priority: Priority) -> usize {
        match priority {
            Priority::Prompt => self.prompt.len(),
            Priority::Background => self.background.len(),
        }
    }

    /// Takes a turn, if one is free.
    pub fn take(&mut self) -> bool {
        let free = self.taken < self.max + self.lent;
        self.taken += usize::from(free);
        free
    }

    /// Enters a waiter.
    pub fn wait(&mut self, priority: Priority, waiter: W) -> Ticket {
        self.tickets += 1;
        let number = self.tickets;
        self.queue(priority).insert(number, waiter);
        Ticket(priority, number)
    }

    /// Removes a waiter who waits no more, if its turn has not come.
    pub fn leave(&mut self, Ticket(priority, number): Ticket) -> Option<W> {
        self.queue(priority).remove(&number)
    }

    /// A waiter of the background queue goes to the end of the prompt one. One whose turn has come, or who is prompt,
    /// stays as it is.
    pub fn raise(&mut self, ticket: Ticket) -> Ticket {
        if ticket.0 == Priority::Prompt {
            return ticket;
        }
        self.leave(ticket).map_or(ticket, |waiter| self.wait(Priority::Prompt, waiter))
    }

    /// A turn ended.
    pub fn give_back(&mut self) {
        self.taken = self.taken.saturating_sub(1);
    }

    /// Takes a free turn for the next waiter.
    pub fn admit(&mut self) -> Option<W> {
        if self.taken >= self.max + self.lent {
            return None;
        }
        let is_background = self.prompt.is_empty() || self.run >= PROMPT_RUN && !self.background.is_empty();
        let (queue, run) =
            if is_background { (&mut self.background, 0) } else { (&mut self.prompt, self.run.saturating_add(1)) };
        let (_, waiter) = queue.pop_first()?;
        self.run = run;
        self.taken += 1;
        Some(waiter)
    }

    fn queue(&mut self, priority: Priority) -> &mut BTreeMap<u64, W> {
        match priority {
            Priority::Prompt => &mut self.prompt,
            Priority::Background => &mut self.background,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Priority::{Background, Prompt};
    use super::*;

    #[test]
    fn prompt_goes_first_and_background_is_not_starved() {
        let mut turns = Turns::new(1);
        assert!(turns.take() && !turns.take());
        (0..3).for_each(|n| assert_eq!(turns.wait(Background, n).0, Background));
        (10..22).for_each(|n| assert_eq!(turns.wait(Prompt, n).0, Prompt));
        assert_eq!((turns.admit(), turns.waiting(Prompt), turns.waiting(Background)), (None, 12, 3));
        let order: Vec<u32> = std::iter::from_fn(|| {
            turns.give_back();
            turns.admit()
        })
        .collect();
        assert_eq!(order, [10, 11, 12, 13, 14, 15, 16, 17, 0, 18, 19, 20, 21, 1, 2]);
    }

    #[test]
    fn a_waiter_who_leaves_is_passed_over() {
        let mut turns = Turns::new(1);
        turns.take();
        let first = turns.wait(Prompt, 1);
        turns.wait(Prompt, 2);
        assert_eq!((turns.leave(first), turns.leave(first)), (Some(1), None));
        turns.give_back();
        assert_eq!((turns.admit(), turns.taken()), (Some(2), 1));
    }

    #[test]
    fn a_waiter_who_is_raised_goes_behind_those_who_are_prompt() {
        let mut turns = Turns::new(1);
        turns.take();
        let (first, second) = (turns.wait(Background, 1), turns.wait(Background, 2));
        turns.wait(Background, 3);
        let prompt = turns.wait(Prompt, 4);
        let raised = turns.raise(second);
        assert_eq!((raised.0, turns.waiting(Prompt), turns.waiting(Background)), (Prompt, 2, 2));
        turns.wait(Prompt, 5);
        assert_eq!((turns.raise(raised), turns.raise(prompt)), (raised, prompt));
        let next = |turns: &mut Turns<u32>| {
            turns.give_back();
            turns.admit()
        };
        let order: Vec<_> = (0..4).map_while(|_| next(&mut turns)).collect();
        assert_eq!(order, [4, 2, 5, 1]);
        assert_eq!((turns.raise(first), next(&mut turns), next(&mut turns)), (first, Some(3), None));
    }

    #[test]
    fn a_turn_that_is_lent_is_one_more_until_it_is_given_back() {
        let mut turns = Turns::new(1);
        turns.lend();
        assert!(turns.take() && turns.take() && !turns.take());
        turns.end_loan();
        turns.wait(Prompt, 1);
        turns.give_back();
        assert_eq!((turns.admit(), turns.taken()), (None, 1));
        turns.give_back();
        assert_eq!(turns.admit(), Some(1));
    }

    #[test]
    fn the_number_of_turns_changes() {
        let mut turns = Turns::new(2);
        assert!(turns.take() && turns.take());
        turns.wait(Background, 1);
        turns.set_max(0);
        turns.give_back();
        assert_eq!((turns.max(), turns.admit()), (1, None), "one is taken, and there is one");
        turns.set_max(3);
        assert_eq!((turns.admit(), turns.taken()), (Some(1), 2));
    }
}
