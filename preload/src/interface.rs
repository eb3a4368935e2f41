//! What C programs can ask of homing beyond `malloc`: memory on a chosen node, and bump arenas. `include/homing.h` is made
//! from this file by cbindgen (`tests/header.rs`), comments and all: they are written for readers of C.

use core::alloc::Layout;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr::{self, NonNull};

use homing::{BumpError, BumpMonitor, CheckpointError, FreeError, LocalBump, NodeError, NodeId, entry};

/// What came of a call. `homing_status_text` says it in words.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It was done.
    Ok = 0,
    /// An argument is null that must not be.
    Null,
    /// The alignment is no power of two, or the size is beyond PTRDIFF_MAX.
    BadLayout,
    /// A setting has a value that it cannot have.
    BadConfig,
    /// The machine has no node of that number.
    NoSuchNode,
    /// The node is there, and has no memory.
    NodeWithoutMemory,
    /// The node has memory, and this process may not take any of it (its cpuset).
    NodeNotAllowed,
    /// There is no memory for so many bytes: on the node that was named, or at all.
    NoMemory,
    /// The block lies on another node than was said; nothing was freed.
    WrongNode,
    /// No header names the block's node: it is large and placed by first touch, or not homing's.
    Unplaced,
    /// The kernel does not tell where memory or threads are.
    Unknown,
    /// The pointer is not homing's, or its memory is gone already; nothing was freed.
    Foreign,
    /// The block was freed already, or never handed out; nothing was freed.
    DoubleFree,
    /// The pointer lies within a block, not at its start; nothing was freed.
    Interior,
    /// The block was written beyond its ends (noticed under HOMING_DEBUG=1); nothing was freed.
    Overwritten,
    /// The arena is in use already by the calling thread: a call came back in from within another.
    Reentered,
    /// The checkpoint is another arena's; nothing was restored.
    ForeignCheckpoint,
    /// What came before the checkpoint has been given up since; nothing was restored.
    StaleCheckpoint,
    /// The checkpoint lies ahead of where the arena is now; nothing was restored.
    FutureCheckpoint,
    /// Something else went wrong.
    Other,
}

impl Status {
    const fn text(self) -> &'static CStr {
        match self {
            Status::Ok => c"it was done",
            Status::Null => c"an argument is null that must not be",
            Status::BadLayout => c"the alignment is no power of two, or the size is beyond PTRDIFF_MAX",
            Status::BadConfig => c"a setting has a value that it cannot have; begin with the default ones",
            Status::NoSuchNode => c"this machine has no node of that number; `homing topology` lists those it has",
            Status::NodeWithoutMemory => c"the node has no memory; ask for one that has",
            Status::NodeNotAllowed => c"this process may not take memory from the node; its cpuset leaves it out",
            Status::NoMemory => c"there is no memory for so many bytes; free some, or ask for less",
            Status::WrongNode => c"the block lies on another node than was said; nothing was freed",
            Status::Unplaced => c"no header names the block's node: it is placed by first touch, or not homing's",
            Status::Unknown => c"the kernel does not tell where memory or threads are",
            Status::Foreign => c"the pointer is not homing's, or its memory is gone already; nothing was freed",
            Status::DoubleFree => c"the block was freed already, or never handed out; nothing was freed",
            Status::Interior => c"the pointer lies within a block, not at its start; nothing was freed",
            Status::Overwritten => c"the block was written beyond its ends; nothing was freed",
            Status::Reentered => c"the arena is in use already by this thread; end that use first",
            Status::ForeignCheckpoint => c"the checkpoint is another arena's; nothing was restored",
            Status::StaleCheckpoint => c"what came before the checkpoint was given up since; nothing was restored",
            Status::FutureCheckpoint => c"the checkpoint lies ahead of where the arena is now; nothing was restored",
            Status::Other => c"something went wrong that this version of homing.h has no name for",
        }
    }

    /// All of them, by their numbers.
    const ALL: [Status; 20] = [
        Status::Ok,
        Status::Null,
        Status::BadLayout,
        Status::BadConfig,
        Status::NoSuchNode,
        Status::NodeWithoutMemory,
        Status::NodeNotAllowed,
        Status::NoMemory,
        Status::WrongNode,
        Status::Unplaced,
        Status::Unknown,
        Status::Foreign,
        Status::DoubleFree,
        Status::Interior,
        Status::Overwritten,
        Status::Reentered,
        Status::ForeignCheckpoint,
        Status::StaleCheckpoint,
        Status::FutureCheckpoint,
        Status::Other,
    ];
}

const _: () = {
    let mut number = 0;
    while number < Status::ALL.len() {
        assert!(Status::ALL[number] as usize == number);
        number += 1;
    }
};

impl From<NodeError> for Status {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::NoSuchNode(_) => Status::NoSuchNode,
            NodeError::WithoutMemory(_) => Status::NodeWithoutMemory,
            NodeError::NotAllowed(_) => Status::NodeNotAllowed,
            NodeError::Full { .. } => Status::NoMemory,
            NodeError::WrongNode { .. } => Status::WrongNode,
            NodeError::Unplaced => Status::Unplaced,
            NodeError::Unknown(_) => Status::Unknown,
            _ => Status::Other,
        }
    }
}

impl From<FreeError> for Status {
    fn from(error: FreeError) -> Self {
        match error {
            FreeError::Foreign => Status::Foreign,
            FreeError::DoubleFree => Status::DoubleFree,
            FreeError::Interior { .. } => Status::Interior,
            FreeError::WrongSize { .. } | FreeError::WrongAlign { .. } => Status::BadLayout,
            FreeError::Underrun { .. } | FreeError::Overrun { .. } => Status::Overwritten,
            _ => Status::Other,
        }
    }
}

impl From<BumpError> for Status {
    fn from(error: BumpError) -> Self {
        match error {
            BumpError::Full { .. } | BumpError::Limit { .. } => Status::NoMemory,
            BumpError::NoMemory { .. } | BumpError::NoThreadData => Status::NoMemory,
            BumpError::BadAlign { .. } => Status::BadLayout,
            BumpError::Reentered => Status::Reentered,
            BumpError::Node(error) => error.into(),
            _ => Status::Other,
        }
    }
}

impl From<CheckpointError> for Status {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Foreign { .. } => Status::ForeignCheckpoint,
            CheckpointError::Stale { .. } => Status::StaleCheckpoint,
            CheckpointError::Future { .. } => Status::FutureCheckpoint,
            _ => Status::Other,
        }
    }
}

fn status<E: Into<Status>>(result: Result<(), E>) -> Status {
    result.map_or_else(Into::into, |()| Status::Ok)
}

/// The status in words, without a full stop; for numbers that are none, too. Never null.
#[unsafe(no_mangle)]
pub extern "C" fn homing_status_text(status: c_int) -> *const c_char {
    let known = usize::try_from(status).ok().and_then(|number| Status::ALL.get(number).copied());
    known.unwrap_or(Status::Other).text().as_ptr()
}

/// The layout of a block for C, which `free` can take: aligned to 16 bytes at least, as all of C's are.
fn layout_of(size: usize, align: usize) -> Option<Layout> {
    Layout::from_size_align(size, align).and_then(|layout| layout.align_to(16)).ok()
}

/// A block of `size` bytes on that node, whichever node the calling thread runs on, put into `*block` (null where the
/// status is not HOMING_STATUS_OK). It is aligned to `align`, a power of two; a size of 0 gives a block of its own, too. No
/// other node serves instead. It is freed by `free`, or by `homing_free_on_node`, by any thread.
///
/// # Safety
/// `block` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn homing_alloc_on_node(size: usize, align: usize, node: u16, block: *mut *mut c_void) -> Status {
    // SAFETY: the caller's promise.
    let Some(place) = (unsafe { block.as_mut() }) else { return Status::Null };
    *place = ptr::null_mut();
    let Some(layout) = layout_of(size, align) else { return Status::BadLayout };
    match homing::alloc_on_node(layout, NodeId::new(node)) {
        Ok(block) => {
            *place = block.as_ptr().cast();
            Status::Ok
        }
        Err(error) => error.into(),
    }
}

/// Frees a block that is said to lie on that node. Where it lies on another, nothing is freed, and the status is
/// HOMING_STATUS_WRONG_NODE. Null is fine, and nothing.
///
/// # Safety
/// The block is one of homing's, of that size and alignment, and not used any more if it was freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn homing_free_on_node(block: *mut c_void, size: usize, align: usize, node: u16) -> Status {
    let Some(block) = NonNull::new(block.cast()) else { return Status::Ok };
    let Some(layout) = layout_of(size, align) else { return Status::BadLayout };
    // SAFETY: the caller's promise.
    status(unsafe { homing::dealloc_from_node(block, layout, NodeId::new(node)) })
}

/// Frees a block as `free` does, or says why it cannot be freed, and then does nothing. Null is fine, and nothing.
///
/// # Safety
/// If the pointer is that of a live block, the block is the caller's, and not used any more if it was freed. No other
/// thread frees it at the same time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn homing_try_free(block: *mut c_void) -> Status {
    // SAFETY: the caller's promise.
    status(unsafe { homing::try_free(block.cast()) })
}

fn number(node: Option<NodeId>) -> c_int {
    node.map_or(-1, |node| node.number().into())
}

/// The node that a block's header names; -1 for large blocks that lie where they are first touched or on all nodes in turn,
/// and for most pointers that are not homing's. No system call, no lock.
///
/// # Safety
/// Null, or a live block of homing's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn homing_node_of(block: *const c_void) -> c_int {
    // SAFETY: the caller's promise.
    number(unsafe { homing::node_of(block.cast()) })
}

/// The node that the page at that address lies on, by the kernel's word; -1 where it is not in memory, or the kernel does
/// not tell.
#[unsafe(no_mangle)]
pub extern "C" fn homing_resident_node(address: *const c_void) -> c_int {
    number(homing::resident_node(address.cast()).ok().flatten())
}

/// The node that the calling thread runs on now; -1 where the kernel does not tell.
#[unsafe(no_mangle)]
pub extern "C" fn homing_current_node() -> c_int {
    number(homing::current_node().ok())
}

/// The node whose memory the calling thread is given now, by the policy and where it runs; -1 where that is spread over all.
#[unsafe(no_mangle)]
pub extern "C" fn homing_home_node() -> c_int {
    number(homing::home_node())
}

/// Gives up what the allocator keeps for the calling thread, its arena and its bump arena, as the thread's end would; the
/// next use begins with clean ones. What the thread has allocated stays, but for what lies in its bump arena.
#[unsafe(no_mangle)]
pub extern "C" fn homing_thread_cleanup() {
    homing::thread_cleanup();
}

/// Gives the memory that nobody uses back to the kernel now, and gives how many bytes went back: in slots of 64 KiB and whole
/// large blocks, so that where the program has written to a part of them only, the resident memory falls by less. What other
/// threads have at hand stays (2 MiB of blocks each, and one of up to 4 MiB of four of them), and so does HOMING_POOL_SIZE.
/// Any thread may call it at any time. `malloc_trim` does the same, and tells only whether anything went back.
#[unsafe(no_mangle)]
pub extern "C" fn homing_trim() -> usize {
    homing::trim()
}

/// What an arena does with a request that it has no room for.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BumpOverflow {
    /// It obtains another chunk, as far as its limit allows.
    Grow = 0,
    /// The request fails: the arena never has more than its pool_size.
    Error,
    /// One line on standard error, and the process is aborted.
    Abort,
}

/// The settings of an arena; begin with those of `homing_bump_config_default`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BumpConfig {
    /// Bytes that it obtains at its first use.
    pub pool_size: usize,
    /// One of homing_bump_overflow.
    pub overflow: c_int,
    /// The node whose memory it takes, and no other's; -1 for that of the thread that asks, at each chunk.
    pub node: c_int,
    /// Whether all memory that it hands out reads as zero: what was used is cleared when it comes back.
    pub zero_on_reset: bool,
    /// Bytes that it may hold at most (`capacity` of its figures), whatever it does at an overflow; 0: no limit.
    pub limit: usize,
}

/// The figures of an arena at one moment.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BumpStats {
    /// Bytes handed out, with what alignment leaves out between them.
    pub used: usize,
    /// Bytes held to hand out.
    pub capacity: usize,
    /// The most bytes that were ever used at once.
    pub high_water_mark: usize,
    /// Requests that the memory held had no room for.
    pub overflows: u64,
    /// How often it was reset.
    pub resets: u64,
    /// Which part of the memory held is used: 0.0 to 1.0.
    pub utilisation: f64,
}

/// A point that an arena can be taken back to. Plain data: it need not be given up.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Checkpoint {
    /// For homing alone.
    pub words: [u64; 4],
}

/// An arena that hands memory out by moving one pointer, and takes it back all at once.
pub struct Bump {
    arena: Arena,
    monitor: BumpMonitor,
}

enum Arena {
    Owned(homing::Bump),
    Local(LocalBump),
}

impl Bump {
    /// Puts the arena where a handle of C leads.
    fn open(arena: Arena, place: &mut *mut Bump) -> Status {
        let monitor = match &arena {
            Arena::Owned(bump) => bump.try_monitor(),
            Arena::Local(bump) => bump.try_monitor(),
        };
        let monitor = match monitor {
            Ok(monitor) => monitor,
            Err(error) => return error.into(),
        };
        let Some(handle) = NonNull::new(entry::malloc(size_of::<Bump>()).cast::<Bump>()) else {
            return Status::NoMemory;
        };
        // SAFETY: the block is as long as the handle, aligned to 16 bytes, and nobody else's.
        unsafe { handle.write(Bump { arena, monitor }) };
        *place = handle.as_ptr();
        Status::Ok
    }

    /// The arena behind a handle. No reference to the whole handle is made: other threads read the monitor in it.
    ///
    /// # Safety
    /// A live handle, used by the calling thread alone, for as long as the reference is.
    unsafe fn arena<'a>(handle: *mut Bump) -> &'a mut homing::Bump {
        // SAFETY: the caller's promise.
        match unsafe { &mut (*handle).arena } {
            Arena::Owned(bump) => bump,
            Arena::Local(bump) => bump,
        }
    }
}

const _: () = assert!(align_of::<Bump>() <= 16);

/// The settings that hold where none are chosen: 64 KiB to begin with, growing, zeroed, on the node of the thread that asks.
#[unsafe(no_mangle)]
pub extern "C" fn homing_bump_config_default() -> BumpConfig {
    let pool_size = homing::BumpConfig::POOL_SIZE;
    BumpConfig { pool_size, overflow: BumpOverflow::Grow as c_int, node: -1, zero_on_reset: true, limit: 0 }
}

fn settings(config: &BumpConfig) -> Option<homing::BumpConfig> {
    let overflow = match config.overflow {
        overflow if overflow == BumpOverflow::Grow as c_int => homing::BumpOverflow::Grow,
        overflow if overflow == BumpOverflow::Error as c_int => homing::BumpOverflow::Error,
        overflow if overflow == BumpOverflow::Abort as c_int => homing::BumpOverflow::Abort,
        _ => return None,
    };
    let settings = homing::BumpConfig::new().pool_size(config.pool_size).zero_on_reset(config.zero_on_reset);
    let settings = settings.overflow(overflow).limit(config.limit);
    match config.node {
        -1 => Some(settings),
        node => Some(settings.node(NodeId::new(u16::try_from(node).ok()?))),
    }
}

/// Makes an arena with these settings (the default ones for null), and puts it into `*bump` (null where the status is not
/// HOMING_STATUS_OK).
///
/// # Safety
/// `config` is null or may be read, `bump` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn homing_bump_create(config: *const BumpConfig, bump: *mut *mut Bump) -> Status {
    // SAFETY: the caller's promise.
    let Some(place) = (unsafe { bump.as_mut() }) else { return Status::Null };
    *place = ptr::null_mut();
    // SAFETY: the caller's promise.
    let settings = match unsafe { config.as_ref() } {
        Some(config) => settings(config),
        None => Some(homing::BumpConfig::new()),
    };
    let Some(settings) = settings else { return Status::BadConfig };
    Bump::open(Arena::Owned(homing::Bump::with(settings)), place)
}

/// Begins a use of the calling thread's own arena, which is made at the first, and puts it into `*bump` (null where the
/// status is not HOMING_STATUS_OK). `homing_bump_destroy` ends the use; the arena and what lies in it stay until they are
/// reset, until `homing_thread_cleanup`, or until the thread ends. Before that a second use is HOMING_STATUS_REENTERED.
/// HOMING_BUMP_SIZE, HOMING_BUMP_ZERO, HOMING_BUMP_OVERFLOW and HOMING_BUMP_LIMIT set it up.
///
/// # Safety
/// `bump` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn homing_bump_local(bump: *mut *mut Bump) -> Status {
    // SAFETY: the caller's promise.
    let Some(place) = (unsafe { bump.as_mut() }) else { return Status::Null };
    *place = ptr::null_mut();
    match homing::Bump::local() {
        Ok(local) => Bump::open(Arena::Local(local), place),
        Err(error) => error.into(),
    }
}

/// Gives up an arena and all that lies in it; or ends the use of a thread's own. Null is fine, and nothing.
///
/// # Safety
/// Null, or an arena that is not used any more, by the thread that began the use if it is a thread's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn homing_bump_destroy(bump: *mut Bump) {
    let Some(bump) = NonNull::new(bump) else { return };
    // SAFETY: the caller gives up what `Bump::open` wrote there.
    drop(unsafe { bump.read() });
    // SAFETY: the block that `Bump::open` allocated.
    unsafe { entry::free(bump.as_ptr().cast()) };
}

/// `size` bytes aligned to `align`, a power of two; null, and `errno` ENOMEM, EINVAL or EBUSY, where that cannot be: no room
/// or memory, an alignment that is no power of two, a call that is found to have come in on top of another for the same
/// arena. A signal handler must not use an arena that the thread it interrupts may be using: it is found out only while that
/// one obtains memory, and overwrites blocks otherwise. `homing_bump_local` always tells.
///
/// # Safety
/// A live arena, used by the calling thread alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn homing_bump_alloc(bump: *mut Bump, size: usize, align: usize) -> *mut c_void {
    // SAFETY: the caller's promise.
    match unsafe { Bump::arena(bump) }.try_alloc_bytes(size, align) {
        Ok(block) => block.as_ptr().cast(),
        Err(error) => {
            let number = match error {
                BumpError::BadAlign { .. } => libc::EINVAL,
                BumpError::Reentered => libc::EBUSY,
                _ => libc::ENOMEM,
            };
            // SAFETY: the calling thread's own.
            unsafe { *libc::__errno_location() = number };
            ptr::null_mut()
        }
    }
}

/// Takes back all that was handed out. Every checkpoint is stale from now on.
///
/// # Safety
/// A live arena, used by the calling thread alone; what was handed out is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn homing_bump_reset(bump: *mut Bump) {
    // SAFETY: the caller's promise.
    unsafe { Bump::arena(bump) }.reset();
}

/// The point that the arena is at.
///
/// # Safety
/// A live arena, used by the calling thread alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn homing_bump_checkpoint(bump: *mut Bump) -> Checkpoint {
    // SAFETY: the caller's promise.
    Checkpoint { words: unsafe { Bump::arena(bump) }.checkpoint().to_words() }
}

/// Takes back all that was handed out since the checkpoint was taken; or nothing, where the checkpoint is another arena's
/// (HOMING_STATUS_FOREIGN_CHECKPOINT), what came before it was given up since (.._STALE_CHECKPOINT), or it lies ahead
/// (.._FUTURE_CHECKPOINT).
///
/// # Safety
/// A live arena, used by the calling thread alone; what was handed out since is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn homing_bump_restore(bump: *mut Bump, checkpoint: Checkpoint) -> Status {
    let Some(checkpoint) = homing::Checkpoint::from_words(checkpoint.words) else { return Status::ForeignCheckpoint };
    // SAFETY: the caller's promise.
    status(unsafe { Bump::arena(bump) }.restore(checkpoint))
}

/// The arena's figures. Any thread may ask, without a lock, while the arena is used by another.
///
/// # Safety
/// A live arena.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn homing_bump_read_stats(bump: *const Bump) -> BumpStats {
    // SAFETY: the caller's promise; other threads never write to the monitor.
    let monitor = unsafe { &(*bump).monitor };
    let stats = monitor.stats();
    BumpStats {
        used: stats.used,
        capacity: stats.capacity,
        high_water_mark: stats.high_water_mark,
        overflows: stats.overflows,
        resets: stats.resets,
        utilisation: stats.utilisation(),
    }
}
