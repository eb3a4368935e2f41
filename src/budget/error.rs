//! Why a budget refuses, and what was refused last.

use core::cell::Cell;
use core::fmt;

use crate::ids::BudgetId;
use crate::message::Bytes;

/// Why a request through a [`Budget`](crate::Budget) is refused.
///
/// In a nest of budgets it tells which of them refused, and which was asked.
///
/// ```
/// # #[cfg(feature = "allocator-api2")] {
/// use core::alloc::Layout;
/// use homing::{Budget, Homing};
///
/// let program = Budget::new("program", 1000, Homing::new());
/// let tenant = Budget::new("tenant", 5000, &program);
/// let error = tenant.try_allocate(Layout::new::<[u8; 1500]>()).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "budget `program` refuses 1500 bytes (aligned to 1) asked of budget `tenant`, with 0 of 1000 bytes in use; \
///      free some, or raise its limit"
/// );
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BudgetError {
    /// The request does not fit within the budget's limit.
    #[non_exhaustive]
    Exceeded {
        /// The name of the budget that refuses.
        budget: &'static str,
        /// Its number, which tells budgets of one name apart.
        id: BudgetId,
        /// The name of the budget that was asked, if that is another, around the one that refuses.
        asker: Option<&'static str>,
        /// Bytes asked for; of a block that is to grow, those beyond what it has.
        asked: usize,
        /// The alignment asked for, in bytes.
        align: usize,
        /// Bytes in use or being asked for when it refused.
        used: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The limit has room, but the allocator inside the budget gives no memory.
    #[non_exhaustive]
    Inner {
        /// The name of the innermost budget, which asked that allocator.
        budget: &'static str,
        /// Its number, which tells budgets of one name apart.
        id: BudgetId,
        /// The name of the budget that was asked, if that is another, around it.
        asker: Option<&'static str>,
        /// Bytes asked for; of a block that is to change its size, those beyond what it has.
        asked: usize,
        /// The alignment asked for, in bytes.
        align: usize,
        /// Bytes in use.
        used: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

impl BudgetError {
    /// The same, asked for by way of a budget around the one that refused.
    pub(super) fn asked_by(mut self, name: &'static str) -> Self {
        let (BudgetError::Exceeded { asker, .. } | BudgetError::Inner { asker, .. }) = &mut self;
        *asker = Some(name);
        self
    }
}

/// Who was asked, in words.
struct Asker(Option<&'static str>);

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |name| write!(f, " asked of budget `{name}`"))
    }
}

impl fmt::Display for BudgetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            BudgetError::Exceeded { budget, asker, asked, align, used, limit, .. } => write!(
                f,
                "budget `{budget}` refuses {} (aligned to {align}){}, with {used} of {} in use; free some, or raise its \
                 limit",
                Bytes(asked),
                Asker(asker),
                Bytes(limit),
            ),
            BudgetError::Inner { budget, asker, asked, align, used, limit, .. } => write!(
                f,
                "budget `{budget}` has room for {} (aligned to {align}){}, with {used} of {} in use, but its allocator \
                 has no memory for them; free some, or ask for less",
                Bytes(asked),
                Asker(asker),
                Bytes(limit),
            ),
        }
    }
}

impl core::error::Error for BudgetError {}

// No destructor, so that it can be used at any time, also at a thread's end, and never allocates.
std::thread_local! {
    static LAST: Cell<Option<BudgetError>> = const { Cell::new(None) };
    /// How many there were.
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

/// The last request of the calling thread that any [`Budget`](crate::Budget) refused: for those who allocate by way of a
/// collection or `GlobalAlloc`, whose own errors tell nothing. Like `errno`, it stays until the next refusal.
///
/// ```
/// # #[cfg(feature = "allocator-api2")] {
/// use allocator_api2::vec::Vec;
/// use homing::{Budget, BudgetError, Homing, last_refusal};
///
/// let budget = Budget::new("small", 100, Homing::new());
/// let mut numbers = Vec::<u64, _>::new_in(&budget);
/// assert!(numbers.try_reserve_exact(20).is_err());
/// assert!(matches!(last_refusal(), Some(BudgetError::Exceeded { asked: 160, limit: 100, .. })));
/// # }
/// ```
pub fn last_refusal() -> Option<BudgetError> {
    LAST.try_with(Cell::get).unwrap_or(None)
}

/// How many requests of the calling thread have been refused.
#[inline]
pub(super) fn count() -> usize {
    COUNT.try_with(Cell::get).unwrap_or(0)
}

/// Notes one.
#[cold]
pub(super) fn note(error: BudgetError) -> BudgetError {
    let _ = LAST.try_with(|last| last.set(Some(error)));
    let _ = COUNT.try_with(|count| count.set(count.get().wrapping_add(1)));
    error
}
