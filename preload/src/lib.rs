//! The shared object that puts homing under unmodified programs: the C and C++ entry points.
//!
//! Every function is its namesake of C17, POSIX.1-2024, the glibc manual ("Replacing malloc") or C++17 (21.6.2), and
//! behaves as its contract says; `homing::entry` holds the behaviour, this crate the names.

mod c;
mod cxx;
mod figures;
