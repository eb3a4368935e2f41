//! The one list of allocators: whatever compares them asks here.

use clap::ValueEnum;

use super::{Peer, Visitor};

macro_rules! peers {
    ($($(#[doc = $doc:expr])* $(#[cfg($condition:meta)])? $name:ident: $type:ty = $value:expr;)*) => {
        /// The types by which workloads are compiled for each allocator.
        pub mod types {
            $(
                $(#[doc = $doc])*
                $(#[cfg($condition)])?
                pub enum $name {}
            )*
        }

        $(
            $(#[cfg($condition)])?
            impl Peer for types::$name {
                type Allocator = $type;

                #[inline(always)]
                fn allocator() -> &'static $type {
                    static ALLOCATOR: $type = $value;
                    &ALLOCATOR
                }
            }
        )*

        /// An allocator, by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
        pub enum PeerId {
            $(
                $(#[doc = $doc])*
                $(#[cfg($condition)])?
                $name,
            )*
        }

        impl PeerId {
            /// Calls `visitor` with the allocator's type.
            pub fn visit<V: Visitor>(self, visitor: V) -> V::Output {
                match self {
                    $(
                        $(#[cfg($condition)])?
                        Self::$name => visitor.visit::<types::$name>(),
                    )*
                }
            }
        }
    };
}

peers! {
    /// The allocator of this repository.
    #[cfg(feature = "homing")]
    Homing: homing::Homing = homing::Homing::new();
    /// What a Rust program uses when it names no other: malloc of the C library.
    System: std::alloc::System = std::alloc::System;
    /// mimalloc 2, as the crate `mimalloc` would be with its feature `v2`.
    #[cfg(feature = "mimalloc2")]
    Mimalloc2: mimalloc2::MiMalloc2 = mimalloc2::MiMalloc2;
    /// mimalloc 3, the crate's default.
    #[cfg(feature = "mimalloc3")]
    Mimalloc3: mimalloc::MiMalloc = mimalloc::MiMalloc;
    /// jemalloc.
    #[cfg(feature = "jemalloc")]
    Jemalloc: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
    /// snmalloc.
    #[cfg(feature = "snmalloc")]
    Snmalloc: snmalloc_rs::SnMalloc = snmalloc_rs::SnMalloc::new();
    /// rpmalloc.
    #[cfg(feature = "rpmalloc")]
    Rpmalloc: rpmalloc::RpMalloc = rpmalloc::RpMalloc;
    /// numalloc, which knows memory nodes too.
    #[cfg(feature = "numalloc")]
    Numalloc: numalloc::NumaAlloc = numalloc::NumaAlloc::new();
    /// homing with its feature `hardened`.
    #[cfg(feature = "modes")]
    Hardened: homing_hardened::Homing = homing_hardened::Homing::new();
    /// homing with `HOMING_ZERO=alloc`.
    #[cfg(feature = "modes")]
    ZeroAlloc: homing_zero_alloc::Homing = homing_zero_alloc::Homing::new().zero(homing_zero_alloc::Zero::Alloc);
    /// homing with `HOMING_ZERO=free`.
    #[cfg(feature = "modes")]
    ZeroFree: homing_zero_free::Homing = homing_zero_free::Homing::new().zero(homing_zero_free::Zero::Free);
    /// homing with `HOMING_DEBUG=1`.
    #[cfg(feature = "modes")]
    Debug: homing_debug::Homing = homing_debug::Homing::new().debug(homing_debug::Debug::On);
}

impl PeerId {
    /// All that are compiled in.
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// The allocator whose time is 1 in a table: homing, or `System` where homing is left out.
    pub fn reference() -> Self {
        Self::all()[0]
    }

    /// The name in tables and on the command line.
    pub fn name(self) -> String {
        let value = self.to_possible_value().expect("no allocator is hidden");
        value.get_name().to_owned()
    }
}
