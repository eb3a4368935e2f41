//! What a user may choose: a `const` builder, and the environment, which wins over it.

mod bump;
mod parse;

use core::cell::UnsafeCell;

use crate::message::Line;
use crate::os;

pub use bump::{BumpConfig, BumpOverflow};
pub(crate) use parse::SETTINGS;

/// What happens when a node's pool has reached its limit (`HOMING_OVERFLOW`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// The nearest node whose pool has room serves the request; where none has, it fails.
    #[default]
    Spill,
    /// The request fails: a null pointer, and `ENOMEM` in C.
    Fail,
    /// One line on standard error, and the process is aborted.
    Abort,
}

/// Whether memory is cleared beyond what C and Rust ask for (`HOMING_ZERO`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Zero {
    /// Not beyond it: only `calloc` and `alloc_zeroed` hand out zeroed memory.
    #[default]
    Off,
    /// Every block is cleared before it is handed out.
    Alloc,
    /// Every block is cleared when it is freed, and reads as zero when it is handed out.
    Free,
}

/// Which node's memory a thread is given (`HOMING_POLICY`). Without effect on a machine with one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Policy {
    /// That of the node it runs on, or the nearest with room when that one is full.
    #[default]
    Local,
    /// That of the node it runs on and no other, even if the request fails for it.
    Bind,
    /// Page by page over all nodes.
    Interleave,
    /// That of the node with this number, or the nearest with room when that one is full.
    Prefer(u16),
}

/// Where blocks of more than 2 MiB lie (`HOMING_LARGE`). Without effect on a machine with one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Large {
    /// On the node whose memory the asking thread is given, as smaller blocks.
    Local,
    /// Each page on the node of the thread that first writes to it: threads that fill an array together each have
    /// their own part of it near.
    FirstTouch,
    /// Page by page over all nodes.
    Interleave,
}

/// Whether every block is watched for misuse (`HOMING_DEBUG`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Debug {
    /// No: only the misuse is noticed that costs nothing to notice.
    #[default]
    Off,
    /// Yes: what is wrong with a block ends the process with a report that names the block, its size and node, and where
    /// it was allocated and freed.
    On,
    /// As `On`; and when the process exits, blocks that nothing points to any more are reported.
    Leaks,
}

/// The settings, each documented at the builder method that sets it.
///
/// ```
/// use homing::{Config, Overflow};
///
/// const SETTINGS: Config = Config::new().pool_size(64 << 20).pool_limit(1 << 30).overflow(Overflow::Fail);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    pub(crate) pool_size: usize,
    pub(crate) pool_limit: usize,
    pub(crate) overflow: Overflow,
    pub(crate) zero: Zero,
    pub(crate) policy: Policy,
    /// `None`: as the policy suggests.
    pub(crate) large: Option<Large>,
    /// `u64::MAX` for never.
    pub(crate) purge_delay_ms: u64,
    /// Whether a thread purges on time.
    pub(crate) background: bool,
    pub(crate) verbose: bool,
    pub(crate) debug: Debug,
    /// Whether a summary is written when the process exits.
    pub(crate) summary: bool,
    /// For the launcher: the process that is to write its summary, and the descriptor it goes to.
    pub(crate) report: Option<(u32, i32)>,
    /// For the bump arenas of threads.
    pub(crate) bump: BumpConfig,
}

impl Config {
    /// The defaults: no pool obtained in advance, no limit, no extra clearing, memory local to the thread, purging
    /// after one second.
    pub const fn new() -> Self {
        Config {
            pool_size: 0,
            pool_limit: usize::MAX,
            overflow: Overflow::Spill,
            zero: Zero::Off,
            policy: Policy::Local,
            large: None,
            purge_delay_ms: 1000,
            background: false,
            verbose: false,
            debug: Debug::Off,
            summary: false,
            report: None,
            bump: BumpConfig::new(),
        }
    }

    /// Whether blocks are watched.
    #[inline]
    pub(crate) fn watches_blocks(&self) -> bool {
        self.debug != Debug::Off
    }

    /// Whether pages that are in memory stay there, unless the program itself gives them back.
    pub(crate) fn keeps_pages(&self) -> bool {
        self.pool_size > 0 || self.purge_delay_ms == u64::MAX || self.policy == Policy::Bind
    }

    /// Bytes that each node's pool obtains when its first thread arrives, and keeps (`HOMING_POOL_SIZE`): no more than there
    /// are to be had then, by what the machine, the node and the process's control groups have left, less a part of that;
    /// one line on standard error tells where they are fewer. What it keeps counts against its limit.
    pub const fn pool_size(mut self, bytes: usize) -> Self {
        self.pool_size = bytes;
        self
    }

    /// Bytes that one node's pool may hold at most (`HOMING_POOL_LIMIT`); 0: no limit. Memory that is free, also what the pool
    /// keeps of its size, is given back before a request is refused for it.
    pub const fn pool_limit(mut self, bytes: usize) -> Self {
        self.pool_limit = bytes;
        self
    }

    /// What happens past the limit (`HOMING_OVERFLOW`).
    pub const fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// What is cleared beyond what the languages ask for (`HOMING_ZERO`).
    pub const fn zero(mut self, zero: Zero) -> Self {
        self.zero = zero;
        self
    }

    /// Which node's memory a thread is given (`HOMING_POLICY`).
    pub const fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Where blocks of more than 2 MiB lie (`HOMING_LARGE`). If this is not set: where they are first touched under
    /// [`Policy::Local`], and as all others under the other policies.
    pub const fn large(mut self, large: Large) -> Self {
        self.large = Some(large);
        self
    }

    /// Milliseconds after which freed memory goes back to the kernel; 0: at once; `None`: never
    /// (`HOMING_PURGE_DELAY`).
    pub const fn purge_delay_ms(mut self, delay: Option<u64>) -> Self {
        self.purge_delay_ms = match delay {
            Some(delay) => delay,
            None => u64::MAX,
        };
        self
    }

    /// Whether a thread of the allocator's own gives freed memory back on time, also while no other thread allocates or frees
    /// (`HOMING_BACKGROUND`). It begins when the process first takes memory from the kernel for a block, and in the child of
    /// a `fork` likewise, has every signal blocked, and sleeps as long as nothing waits. None begins where freed memory
    /// never goes back ([`purge_delay_ms`](Self::purge_delay_ms) of `None`).
    ///
    /// ```
    /// use homing::Homing;
    ///
    /// #[global_allocator]
    /// static GLOBAL: Homing = Homing::new().background(true);
    /// # fn main() {}
    /// ```
    pub const fn background(mut self, background: bool) -> Self {
        self.background = background;
        self
    }

    /// Whether the allocator says on standard error, once, what it found and chose (`HOMING_VERBOSE`).
    pub const fn verbose(mut self, verbose: bool) -> Self {
        self.verbose = verbose;
        self
    }

    /// Whether every block is watched for misuse (`HOMING_DEBUG`).
    pub const fn debug(mut self, debug: Debug) -> Self {
        self.debug = debug;
        self
    }

    /// The bump arenas of threads, [`Bump::local`](crate::Bump::local) (`HOMING_BUMP_SIZE`, `HOMING_BUMP_ZERO`,
    /// `HOMING_BUMP_OVERFLOW`, `HOMING_BUMP_LIMIT`).
    pub const fn bump(mut self, bump: BumpConfig) -> Self {
        self.bump = bump;
        self
    }

    /// Whether allocation and freeing are to take the slow paths always.
    pub(crate) fn is_checked(&self) -> bool {
        self.zero != Zero::Off || self.debug != Debug::Off
    }

    /// Takes over what the environment says, with one line on standard error for each key or value that is not
    /// understood. An empty value is as good as none, for any key. False where there is no environment yet. Ignored
    /// altogether in a process with privileges its caller lacks (`AT_SECURE`).
    pub(crate) fn read_environment(&mut self) -> bool {
        if os::is_secure() {
            return true;
        }
        os::for_each_variable(|variable| {
            let Some(rest) = variable.strip_prefix(b"HOMING_") else { return };
            let (key, value) = match rest.iter().position(|byte| *byte == b'=') {
                Some(at) => (&rest[..at], &rest[at + 1..]),
                None => (rest, &rest[rest.len()..]),
            };
            if value.is_empty() {
                return;
            }
            match parse::apply(self, key, value) {
                Ok(()) => {}
                Err(parse::Rejection::UnknownKey) => Line::new()
                    .text("HOMING_")
                    .bytes(key)
                    .text(" is not a setting and is ignored; the settings are ")
                    .text(SETTINGS)
                    .say(),
                Err(parse::Rejection::BadValue(wanted)) => Line::new()
                    .text("HOMING_")
                    .bytes(key)
                    .text("=")
                    .bytes(value)
                    .text(" is ignored: it wants ")
                    .text(wanted)
                    .say(),
            }
        })
    }

    /// Has the settings agree with each other, with a line on standard error where they did not.
    pub(crate) fn settle(&mut self) {
        // A pool that may hold nothing would serve nothing: nobody means that.
        if self.pool_limit == 0 {
            self.pool_limit = usize::MAX;
        }
        if self.pool_size > self.pool_limit {
            let line = Line::new().text("HOMING_POOL_SIZE is ").size(self.pool_size);
            line.text(", and HOMING_POOL_LIMIT ")
                .size(self.pool_limit)
                .text(": pools obtain no more than the limit")
                .say();
            self.pool_size = self.pool_limit;
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

/// The process's settings: written once, while the process is being set up, and read by everybody afterwards.
struct Shared(UnsafeCell<Config>);

// SAFETY: written only by `install`, whose caller is alone (see there); all other uses read.
unsafe impl Sync for Shared {}

static CURRENT: Shared = Shared(UnsafeCell::new(Config::new()));

/// Makes the settings the process's.
///
/// # Safety
/// Nobody else reads or writes them yet: the caller is the one that sets the process up, before it is done.
pub(crate) unsafe fn install(config: Config) {
    // SAFETY: the caller is alone.
    unsafe { *CURRENT.0.get() = config };
}

/// The process's settings; the defaults before it is set up.
#[inline]
pub(crate) fn current() -> &'static Config {
    // SAFETY: written before anybody who reads gets here (`install`).
    unsafe { &*CURRENT.0.get() }
}

/// Whether `key=value` is a setting that the environment may carry as `HOMING_key=value`; the error says what is wrong. No
/// value is wrong for being empty: it leaves the setting as it was.
pub fn check_setting(key: &str, value: &str) -> Result<(), &'static str> {
    let key = key.strip_prefix("HOMING_").unwrap_or(key);
    match parse::apply(&mut Config::new(), key.as_bytes(), value.as_bytes()) {
        Ok(()) => Ok(()),
        Err(parse::Rejection::UnknownKey) => Err(parse::UNKNOWN),
        Err(parse::Rejection::BadValue(wanted)) => Err(wanted),
    }
}
