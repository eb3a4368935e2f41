//! Limits in bytes around allocators: [`Budget`].

#[cfg(feature = "allocator-api2")]
mod allocator;
mod error;
mod global;
mod ledger;

use core::alloc::Layout;
use core::fmt;
use core::mem::ManuallyDrop;

use crate::ids::BudgetId;
use crate::os;
use crate::sync::{AtomicU64, Ordering};
pub use error::{BudgetError, last_refusal};
use ledger::{Full, Ledger, Reserved};

/// A limit in bytes around an allocator.
///
/// What is charged is the size of each live block's layout, to the byte: blocks in use never exceed the limit together,
/// whatever any number of threads do, and a request that would is refused without asking the allocator inside. A block
/// that grows is charged for what it grows by; while the allocator inside moves it, that may hold both places for a moment.
/// What an allocator needs beyond the layouts (size classes, headers, free blocks that it keeps) is not charged.
///
/// `&Budget` is an allocator as well, so budgets nest: `Budget::new("tenant", bytes, &program)`. What a child hands out is
/// charged to its parent too, by going through it, so a child never has more than its parent allows, whatever its own
/// limit is.
///
/// - *As a program's global allocator*: where the allocator inside is a `GlobalAlloc`, so is the budget. Nothing here panics
///   or allocates.
/// - *As the allocator of collections*: where the one inside is an `Allocator` of the crate `allocator-api2`, so is the
///   budget (feature `allocator-api2`), which then has `try_allocate` and others beside, whose error tells who asked for
///   how much of what ([`BudgetError`]). For all others there is [`last_refusal`].
/// - *Errors*: as the face has them: null, or `AllocError`.
/// - *Re-entry*: no lock is held while anything else is called, so it may be come back to at any time.
/// - *At thread exit* nothing changes: blocks stay charged until they are freed, by any thread.
/// - *Cost*: four atomic additions for a block, two for its end. No memory.
///
/// ```
/// use homing::{Budget, Homing};
///
/// #[global_allocator]
/// static GLOBAL: Budget<Homing> = Budget::new("program", 1 << 30, Homing::new());
///
/// let before = GLOBAL.used();
/// let mut numbers: Vec<u64> = Vec::with_capacity(1000);
/// assert_eq!(GLOBAL.used(), before + 8000);
/// assert!(numbers.try_reserve(1 << 30).is_err());
/// assert!(GLOBAL.peak() < 1 << 30);
/// ```
pub struct Budget<A, F = fn(&SoftLimit)> {
    name: &'static str,
    ledger: Ledger,
    allocations: AtomicU64,
    refusals: AtomicU64,
    failures: AtomicU64,
    /// 0 until somebody asks for it.
    id: AtomicU64,
    soft: usize,
    callback: Option<F>,
    inner: A,
}

/// What the callback of a soft limit is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SoftLimit {
    /// The budget's name.
    pub budget: &'static str,
    /// Its number, which tells budgets of one name apart.
    pub id: BudgetId,
    /// The soft limit in bytes.
    pub soft_limit: usize,
    /// Bytes in use now: by the time of the call it may be fewer again.
    pub used: usize,
    /// The limit in bytes.
    pub limit: usize,
}

/// A budget's figures. Each is exact; while other threads allocate, they are of moments close to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetStats {
    /// Bytes in use: the sizes of the live blocks' layouts.
    pub used: usize,
    /// The most bytes ever in use at once.
    pub peak: usize,
    /// The limit in bytes.
    pub limit: usize,
    /// Bytes that are left.
    pub remaining: usize,
    /// Blocks handed out, ever.
    pub allocations: u64,
    /// Requests, ever, that did not fit within this budget's limit.
    pub refusals: u64,
    /// Requests, ever, that did, and that the allocator inside refused: a parent, among others.
    pub failures: u64,
}

impl<A> Budget<A> {
    /// A budget of `limit` bytes, by a name that errors tell, around that allocator.
    pub const fn new(name: &'static str, limit: usize, inner: A) -> Self {
        Budget {
            name,
            ledger: Ledger::new(limit),
            allocations: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            id: AtomicU64::new(0),
            soft: usize::MAX,
            callback: None,
            inner,
        }
    }

    /// The budget with a callback that is called each time that the bytes in use go over `bytes`: once, and again after
    /// they were not over it in the meantime. To be given before the first block.
    ///
    /// The thread whose request it was calls it, before it gets its block; no lock is held. It is never called twice at
    /// once: what happens during a call is told after it, by the same thread. The callback may allocate, from this budget
    /// too; where it goes over the limit itself, it is not told. In a budget that is the program's global allocator it may
    /// run in the middle of anything that allocates, so it should take no lock under which others allocate: setting a mark
    /// is best. A callback that panics ends the process.
    ///
    /// ```
    /// use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
    /// use homing::{Budget, Homing, SoftLimit};
    ///
    /// static IS_LOW: AtomicBool = AtomicBool::new(false);
    ///
    /// fn note(_: &SoftLimit) {
    ///     IS_LOW.store(true, Relaxed);
    /// }
    ///
    /// #[global_allocator]
    /// static GLOBAL: Budget<Homing> = Budget::new("program", 1 << 30, Homing::new()).with_soft_limit(64 << 20, note);
    ///
    /// let room = vec![0_u8; 65 << 20];
    /// assert!(IS_LOW.load(Relaxed));
    /// # drop(room);
    /// ```
    pub const fn with_soft_limit<F: Fn(&SoftLimit)>(self, bytes: usize, callback: F) -> Budget<A, F> {
        let this = ManuallyDrop::new(self);
        let this = (&raw const this).cast::<Self>();
        // SAFETY: `ManuallyDrop` has the layout of what is in it. All that could need dropping is moved out, once; the callback
        // there was is a pointer to a function.
        unsafe {
            Budget {
                name: (*this).name,
                ledger: (&raw const (*this).ledger).read(),
                allocations: (&raw const (*this).allocations).read(),
                refusals: (&raw const (*this).refusals).read(),
                failures: (&raw const (*this).failures).read(),
                id: (&raw const (*this).id).read(),
                soft: bytes,
                callback: Some(callback),
                inner: (&raw const (*this).inner).read(),
            }
        }
    }
}

impl<A, F> Budget<A, F> {
    /// The name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The budget's number, which tells budgets of one name apart.
    pub fn id(&self) -> BudgetId {
        let number = self.id.load(Ordering::Relaxed);
        BudgetId::known(number).unwrap_or_else(|| {
            let next = BudgetId::next();
            match self.id.compare_exchange(0, next.get(), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => next,
                Err(others) => BudgetId::known(others).unwrap_or(next),
            }
        })
    }

    /// The allocator inside. What is asked of it directly is not charged.
    pub const fn inner(&self) -> &A {
        &self.inner
    }

    /// Bytes in use: the sizes of the live blocks' layouts.
    pub fn used(&self) -> usize {
        self.ledger.used()
    }

    /// The most bytes ever in use at once.
    pub fn peak(&self) -> usize {
        self.ledger.peak().max(self.ledger.used())
    }

    /// The limit in bytes.
    pub fn limit(&self) -> usize {
        self.ledger.limit()
    }

    /// Bytes that are left: 0 too where more are in use than a limit that was lowered.
    pub fn remaining(&self) -> usize {
        self.ledger.limit().saturating_sub(self.ledger.reserved())
    }

    /// Has another limit from now on. What is in use stays, even if it is more than that: then nothing is handed out until
    /// enough of it has been freed.
    pub fn set_limit(&self, bytes: usize) {
        self.ledger.set_limit(bytes);
    }

    /// All figures.
    ///
    /// ```
    /// # #[cfg(feature = "allocator-api2")] {
    /// use allocator_api2::boxed::Box;
    /// use homing::{Budget, Homing};
    ///
    /// let budget = Budget::new("cache", 1000, Homing::new());
    /// let entry = Box::new_in([0_u8; 300], &budget);
    /// drop(entry);
    /// let stats = budget.stats();
    /// assert_eq!((stats.used, stats.peak, stats.remaining, stats.allocations), (0, 300, 1000, 1));
    /// # }
    /// ```
    pub fn stats(&self) -> BudgetStats {
        BudgetStats {
            used: self.used(),
            peak: self.peak(),
            limit: self.limit(),
            remaining: self.remaining(),
            allocations: self.allocations.load(Ordering::Relaxed),
            refusals: self.refusals.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }
}

/// What the faces have in common: each request passes through one of these.
impl<A, F: Fn(&SoftLimit)> Budget<A, F> {
    /// A block from inside, charged.
    #[inline]
    fn charge_block<B>(&self, layout: Layout, obtain: impl FnOnce() -> Option<B>) -> Result<B, BudgetError> {
        let block = self.charge(layout.size(), layout.align(), obtain)?;
        self.allocations.fetch_add(1, Ordering::Relaxed);
        Ok(block)
    }

    /// What `obtain` gets from inside, charged with so many bytes.
    #[inline]
    fn charge<B>(&self, bytes: usize, align: usize, obtain: impl FnOnce() -> Option<B>) -> Result<B, BudgetError> {
        let reserved = match self.ledger.reserve(bytes) {
            Ok(reserved) => reserved,
            Err(full) => return Err(self.refuse(bytes, align, full)),
        };
        let refusals = error::count();
        match obtain() {
            Some(block) => {
                self.grant(reserved);
                Ok(block)
            }
            None => {
                drop(reserved);
                Err(self.pass_on(bytes, align, refusals))
            }
        }
    }

    /// What `give_back` does inside, after which so many bytes less are charged, unless it gives nothing.
    #[inline]
    fn refund<B>(&self, bytes: usize, align: usize, give_back: impl FnOnce() -> Option<B>) -> Result<B, BudgetError> {
        let was_over = self.used() > self.soft;
        let withdrawn = self.ledger.withdraw(bytes);
        let refusals = error::count();
        match give_back() {
            Some(block) => Ok(block),
            None => {
                // What was over the soft limit all along does not go over it here.
                if self.ledger.grant(withdrawn, self.soft) && !was_over {
                    self.tell();
                }
                Err(self.pass_on(0, align, refusals))
            }
        }
    }

    #[inline]
    fn grant(&self, reserved: Reserved<'_>) {
        if self.ledger.grant(reserved, self.soft) {
            self.tell();
        }
    }

    #[cold]
    fn tell(&self) {
        if let Some(callback) = &self.callback {
            self.ledger.alarm(os::thread_token(), || {
                let news = SoftLimit {
                    budget: self.name,
                    id: self.id(),
                    soft_limit: self.soft,
                    used: self.used(),
                    limit: self.limit(),
                };
                call(callback, &news);
            });
        }
    }

    #[cold]
    #[inline(never)]
    fn refuse(&self, asked: usize, align: usize, full: Full) -> BudgetError {
        self.refusals.fetch_add(1, Ordering::Relaxed);
        let Full { used, limit } = full;
        let (budget, id, asker) = (self.name, self.id(), None);
        error::note(BudgetError::Exceeded { budget, id, asker, asked, align, used, limit })
    }

    /// The refusal from further inside; or, if no budget noted one since there were so many, of the allocator there.
    #[cold]
    #[inline(never)]
    fn pass_on(&self, asked: usize, align: usize, refusals: usize) -> BudgetError {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let further = if error::count() == refusals { None } else { last_refusal() };
        let (budget, id, asker) = (self.name, self.id(), None);
        let (used, limit) = (self.used(), self.limit());
        let own = BudgetError::Inner { budget, id, asker, asked, align, used, limit };
        error::note(further.map_or(own, |error| error.asked_by(self.name)))
    }
}

/// Calls back. This cannot unwind: a panic in the callback ends the process here.
#[allow(improper_ctypes_definitions, reason = "only Rust calls it")]
extern "C" fn call<F: Fn(&SoftLimit)>(callback: &F, news: &SoftLimit) {
    callback(news);
}

impl<A, F> fmt::Debug for Budget<A, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Budget { name, .. } = self;
        f.debug_struct("Budget").field("name", name).field("stats", &self.stats()).finish_non_exhaustive()
    }
}
