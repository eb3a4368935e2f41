//! Numbers of what a program makes any number of. Never 0, and none twice in a process.

use core::fmt;
use core::num::NonZeroU64;

use crate::sync::{AtomicU64, Ordering};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $($(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(NonZeroU64);

        impl $name {
            /// The number.
            pub const fn get(self) -> u64 {
                self.0.get()
            }

            /// The one that has been given before; none has the number 0.
            #[allow(dead_code, reason = "not all of them are read back")]
            pub(crate) const fn known(number: u64) -> Option<Self> {
                match NonZeroU64::new(number) {
                    Some(number) => Some($name(number)),
                    None => None,
                }
            }

            /// The next one.
            pub(crate) fn next() -> Self {
                static LAST: AtomicU64 = AtomicU64::new(0);
                // A process that made a thousand million of them each second would need five hundred years to come round.
                let number = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
                $name(NonZeroU64::new(number).unwrap_or(NonZeroU64::MAX))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        })*
    };
}

ids! {
    /// A budget's number, for reports.
    BudgetId;
    /// A bump arena's number: what its checkpoints know it by.
    BumpId;
    /// The number of a set of node pools, for reports.
    NodePoolsId;
}
