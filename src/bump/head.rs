//! What a bump arena is: the word that its fast path works on, its chunks, and its figures. It lies in the heap, so that
//! monitors find it wherever the arena is moved to, and outlives the arena while there are any.
//!
//! Only the owner (the thread that has the [`Bump`](super::Bump)) uses it, but for the gauge and the count of handles.

use core::cell::{Cell, UnsafeCell};
use core::num::NonZeroUsize;
use core::ptr::{self, NonNull};

use super::chunk::Chunk;
use super::error::BumpError;
use super::gauge::{Figures, Gauge};
use super::restores::Restores;
use crate::arith::{self, align_up, place_down};
use crate::config::{BumpConfig, BumpOverflow};
use crate::message::Line;
use crate::os;
use crate::source::Source;
use crate::sync::{AtomicUsize, Ordering};

/// See the module's text.
#[repr(C)]
pub(super) struct Head {
    /// Nothing is handed out below this, without the slow path. Beside the gauge's first word: the fast path needs both.
    floor: Cell<NonNull<u8>>,
    gauge: Gauge,
    /// Where in the present chunk the last checkpoint is, or restore, or its end: memory above this does not come back one by
    /// one, so that positions of checkpoints stay what they were.
    limit: Cell<usize>,
    chunk: Cell<Option<Chunk>>,
    /// A chunk that nothing is handed out of: what a restore has left.
    spare: Cell<Option<Chunk>>,
    chunks: Cell<usize>,
    capacity: Cell<usize>,
    source: Source,
    restores: UnsafeCell<Restores>,
    /// The arena, and its monitors.
    handles: AtomicUsize,
}

// SAFETY: other threads reach the gauge and the handles only, which are atomic (`monitor`); of the one below, nothing
// is ever changed but `top`, to what it is.
unsafe impl Sync for Head {}

/// Where the arena without memory ends that all begin as: it has room for nothing.
const NOWHERE: NonNull<u8> = NonNull::new(ptr::without_provenance_mut(NOWHERE_AT)).expect("not 0");
const NOWHERE_AT: usize = 1 << 16;

/// What arenas have before their first use.
pub(super) static EMPTY: Head = Head::new(Source::Caller);

/// The least that another chunk has, and what its size is a multiple of.
const LEAST: usize = 64;
/// What chunks are aligned to at least.
const ALIGN: usize = 64;

impl Head {
    const fn new(source: Source) -> Self {
        Head {
            floor: Cell::new(NOWHERE),
            gauge: Gauge::new(NOWHERE_AT),
            limit: Cell::new(NOWHERE_AT),
            chunk: Cell::new(None),
            spare: Cell::new(None),
            chunks: Cell::new(0),
            capacity: Cell::new(0),
            source,
            restores: UnsafeCell::new(Restores::new()),
            handles: AtomicUsize::new(1),
        }
    }

    /// A head in memory of its own, with one handle. `resets` are those that the arena had before.
    pub(super) fn make(source: Source, resets: usize) -> Option<NonNull<Head>> {
        let head = source.allocate(size_of::<Head>(), align_of::<Head>(), false)?.cast::<Head>();
        // SAFETY: the memory is large and aligned enough, and nobody else's.
        unsafe { head.write(Head::new(source)) };
        // SAFETY: written just now.
        unsafe { head.as_ref() }.gauge.switch(0, NOWHERE_AT, Figures { resets, ..Figures::default() });
        Some(head)
    }

    /// Another handle to it. False where there are as many as can be counted.
    pub(super) fn share(&self) -> bool {
        let more = |handles: usize| (handles < isize::MAX as usize).then_some(handles + 1);
        self.handles.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Gives a handle up; the last one frees the head.
    ///
    /// # Safety
    /// The handle is the caller's, which does not use the head any more. The head is not [`EMPTY`].
    pub(super) unsafe fn release(head: NonNull<Head>) {
        // SAFETY: the caller's handle keeps it.
        if unsafe { head.as_ref() }.handles.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        crate::sync::fence(Ordering::Acquire);
        // SAFETY: there is no handle left.
        unsafe { head.drop_in_place() };
        // SAFETY: obtained in `make` with this size and alignment.
        unsafe { Source::free(head.cast(), size_of::<Head>(), align_of::<Head>()) };
    }

    /// The figures, for any thread.
    pub(super) fn figures(&self) -> Figures {
        self.gauge.read()
    }

    /// The fast path: memory out of what the chunk has ready. `align` is a power of two.
    #[inline(always)]
    pub(super) fn place(&self, size: usize, align: usize) -> Option<NonNull<u8>> {
        self.place_below(self.gauge.top(), size, align)
    }

    #[inline(always)]
    fn place_below(&self, end: usize, size: usize, align: usize) -> Option<NonNull<u8>> {
        let floor = self.floor.get();
        let start = place_down(end, floor.addr().get(), size, align)?;
        self.gauge.take_down_to(start);
        // SAFETY: not below the floor, which is not 0.
        Some(floor.with_addr(unsafe { NonZeroUsize::new_unchecked(start) }))
    }

    /// Memory of the present chunk that has to be cleared first.
    #[cold]
    #[inline(never)]
    fn place_in_unclean(&self, end: usize, size: usize, align: usize) -> Option<NonNull<u8>> {
        let chunk = self.chunk.get()?;
        let start = place_down(end, chunk.start(), size, align)?;
        chunk.clean_down_to(start);
        self.floor.set(chunk.clean_floor());
        self.place_below(end, size, align)
    }

    /// What the fast path does not serve.
    pub(super) fn serve(&self, size: usize, align: usize, config: &BumpConfig) -> Result<NonNull<u8>, BumpError> {
        let top = self.gauge.top();
        if let Some(block) = self.place_in_unclean(top, size, align) {
            return Ok(block);
        }
        let floor = self.chunk.get().map_or(top, Chunk::start);
        let is_first = self.chunk.get().is_none();
        let pool_size = config.pool_size.min(config.most());
        if is_first && (size <= pool_size || config.overflow != BumpOverflow::Grow) {
            let pool = self.obtain(pool_size, align, config);
            self.go_on_in(pool.ok_or(BumpError::NoMemory { size: pool_size, align })?, 0, 0);
            // Once more, from the top: the pool may be too small for it.
            return match self.place(size, align) {
                Some(block) => Ok(block),
                None => self.serve(size, align, config),
            };
        }
        let refused = match config.limit {
            Some(limit) if limit.get() < config.pool_size => self.beyond(limit, size, align),
            _ => BumpError::Full { asked: size, align, left: top - floor, size: self.capacity.get() },
        };
        match config.overflow {
            BumpOverflow::Grow => self.grow(size, align, config),
            BumpOverflow::Abort => abort(&refused),
            BumpOverflow::Error => {
                self.count(|figures| figures.overflows += 1);
                Err(refused)
            }
        }
    }

    fn grow(&self, size: usize, align: usize, config: &BumpConfig) -> Result<NonNull<u8>, BumpError> {
        let fits = |chunk: &Chunk| place_down(chunk.end(), chunk.start(), size, align).is_some();
        let chunk = match self.spare.get() {
            Some(spare) if fits(&spare) => self.spare.take(),
            _ => {
                self.make_room(size, align, config)?;
                self.obtain_larger(size, align, config)
            }
        };
        let Some(chunk) = chunk else {
            self.count(|figures| figures.overflows += 1);
            return Err(BumpError::NoMemory { size, align });
        };
        self.go_on_in(chunk, self.gauge.read().used, 1);
        match self.place(size, align) {
            Some(block) => Ok(block),
            None => self.serve(size, align, config),
        }
    }

    /// Gives the spare chunk back, which does not serve, and sees to it that the limit has room for `size` bytes more. Where it
    /// has not, all stays as it is.
    fn make_room(&self, size: usize, align: usize, config: &BumpConfig) -> Result<(), BumpError> {
        if let Some(limit) = config.limit {
            // Under another chunk, the only one would be of no use until the reset, and count all the same.
            let is_idle = |chunk: &Chunk| chunk.before().is_none() && chunk.end() == self.gauge.top();
            let idle = self.chunk.get().filter(is_idle);
            let free = [idle, self.spare.get()].map(|chunk| chunk.map_or(0, Chunk::size));
            let others = self.capacity.get() - free[0] - free[1];
            if size > limit.get().saturating_sub(others) {
                self.count(|figures| figures.overflows += 1);
                return Err(self.beyond(limit, size, align));
            }
            if let Some(idle) = idle {
                self.stand_nowhere();
                self.free(idle);
            }
        }
        self.spare.take().into_iter().for_each(|spare| self.free(spare));
        Ok(())
    }

    /// Bytes that the arena may still obtain.
    pub(super) fn room(&self, limit: usize) -> usize {
        limit.saturating_sub(self.capacity.get())
    }

    fn beyond(&self, limit: NonZeroUsize, asked: usize, align: usize) -> BumpError {
        BumpError::Limit { asked, align, held: self.capacity.get(), limit: limit.get() }
    }

    /// At least twice what the newest chunk has, if there is memory for that, and the limit has room; enough for the request
    /// in any case, which the limit has room for.
    fn obtain_larger(&self, size: usize, align: usize, config: &BumpConfig) -> Option<Chunk> {
        let least = align_up(size.max(LEAST), LEAST).filter(|least| *least <= arith::MAX_SIZE)?;
        let newest = self.chunk.get().map_or(0, Chunk::size);
        let wanted =
            align_up(newest.saturating_mul(2).max(config.pool_size), LEAST).map_or(least, |size| size.max(least));
        let room = self.room(config.most());
        let (wanted, least) = (wanted.min(room), least.min(room));
        self.obtain(wanted, align, config).or_else(|| self.obtain(least, align, config))
    }

    fn obtain(&self, size: usize, align: usize, config: &BumpConfig) -> Option<Chunk> {
        // Pools that do not grow are placed in the same way whatever is asked of them first.
        let align = if config.overflow == BumpOverflow::Grow { align.max(ALIGN) } else { ALIGN };
        let chunk = Chunk::obtain(self.source, size, align, config.zero_on_reset)?;
        self.chunks.set(self.chunks.get() + 1);
        self.capacity.set(self.capacity.get().saturating_add(size));
        Some(chunk)
    }

    fn free(&self, chunk: Chunk) {
        self.chunks.set(self.chunks.get() - 1);
        self.capacity.set(self.capacity.get().saturating_sub(chunk.size()));
        // SAFETY: callers have taken it off the arena, which nothing refers to any more that lies in it.
        unsafe { chunk.free() };
    }

    /// Changes the figures where nothing else changes.
    fn count(&self, change: impl FnOnce(&mut Figures)) {
        let (end, used) = self.chunk.get().map_or((0, 0), |chunk| (chunk.end(), chunk.used_before()));
        let mut figures = self.gauge.read();
        figures.used = used;
        figures.capacity = self.capacity.get();
        figures.chunks = self.chunks.get();
        change(&mut figures);
        self.gauge.switch(end, self.gauge.top(), figures);
    }

    /// Hands out of another chunk from now on.
    fn go_on_in(&self, chunk: Chunk, used: usize, overflows: usize) {
        chunk.follow(self.chunk.get(), used);
        self.limit.set(chunk.end());
        self.stand_at(chunk, chunk.end(), |figures| figures.overflows += overflows);
    }

    /// Makes that the place which memory is handed out from next.
    fn stand_at(&self, chunk: Chunk, top: usize, change: impl FnOnce(&mut Figures)) {
        self.chunk.set(Some(chunk));
        self.floor.set(chunk.clean_floor());
        let mut figures = self.gauge.read();
        figures.used = chunk.used_before();
        figures.capacity = self.capacity.get();
        figures.chunks = self.chunks.get();
        change(&mut figures);
        self.gauge.switch(chunk.end(), top, figures);
    }

    /// Leaves the chunk that nothing is handed out of, and has nothing to hand out until there is another. The figures
    /// are to follow.
    fn stand_nowhere(&self) {
        self.chunk.set(None);
        self.gauge.switch(0, NOWHERE_AT, Figures { used: 0, ..self.gauge.read() });
        self.floor.set(NOWHERE);
        self.limit.set(NOWHERE_AT);
    }

    /// Bytes from the beginning of the first chunk to where memory is handed out next, over all chunks.
    fn position(&self) -> usize {
        self.chunk.get().map_or(0, |chunk| chunk.base().saturating_add(chunk.end() - self.gauge.top()))
    }

    /// The position and the number of the last restore, for a checkpoint. What is handed out now does not come back one by
    /// one.
    pub(super) fn mark(&self) -> (usize, u64) {
        self.limit.set(self.gauge.top());
        // SAFETY: no reference to change it outlives `restore` or `reset`, which do not call this.
        (self.position(), unsafe { &*self.restores.get() }.last())
    }

    /// How a checkpoint stands to where the arena is now: whether a restore has undone it, and how many bytes it is ahead.
    pub(super) fn is_undone(&self, position: usize, restores: u64) -> Option<usize> {
        // SAFETY: as in `mark`.
        let is_undone = unsafe { &*self.restores.get() }.undo(restores, position);
        is_undone.then(|| position.saturating_sub(self.position()))
    }

    /// Takes back all that was handed out beyond the position of a checkpoint that is not undone.
    ///
    /// # Safety
    /// Nobody uses that any more.
    pub(super) unsafe fn restore(&self, position: usize, zero: bool) {
        let Some(mut chunk) = self.chunk.get() else { return };
        if position >= self.position() {
            return;
        }
        // SAFETY: the only reference, for this statement.
        unsafe { &mut *self.restores.get() }.note(position);
        let mut top = self.gauge.top();
        while chunk.base() > position
            && let (Some(before), Some(top_before)) = (chunk.before(), chunk.top_before())
        {
            if zero {
                // SAFETY: nobody uses what was handed out of the chunk, as the caller promises.
                unsafe { chunk.clear(top, chunk.end()) };
            }
            // The chunk must not be the arena's any more when it is given back.
            self.chunk.set(Some(before));
            let less = match self.spare.replace(Some(chunk)) {
                Some(spare) if spare.size() > chunk.size() => self.spare.replace(Some(spare)),
                less => less,
            };
            less.into_iter().for_each(|less| self.free(less));
            (chunk, top) = (before, top_before);
        }
        // Beyond what was used of this chunk lie only positions that were made up.
        let new_top = (chunk.end() - (position - chunk.base())).max(top);
        if zero {
            // SAFETY: as above.
            unsafe { chunk.clear(top, new_top) };
        }
        self.limit.set(new_top);
        self.stand_at(chunk, new_top, |_| {});
    }

    /// Takes back all that was handed out, and keeps the largest chunk.
    ///
    /// # Safety
    /// Nobody uses what was handed out any more.
    pub(super) unsafe fn reset(&self, zero: bool) {
        // SAFETY: the only reference, for this statement.
        unsafe { &mut *self.restores.get() }.forget();
        let mut kept = self.spare.take();
        let mut top = self.gauge.top();
        let mut next = self.chunk.get();
        while let Some(chunk) = next {
            next = chunk.before();
            let top_before = chunk.top_before();
            if kept.is_some_and(|kept| kept.size() >= chunk.size()) {
                self.free(chunk);
            } else {
                kept.replace(chunk).into_iter().for_each(|less| self.free(less));
                if zero {
                    // SAFETY: nobody uses what was handed out of the chunk, as the caller promises.
                    unsafe { chunk.clear(top, chunk.end()) };
                }
            }
            top = top_before.unwrap_or(top);
        }
        match kept {
            Some(chunk) => {
                chunk.follow(None, 0);
                self.limit.set(chunk.end());
                self.stand_at(chunk, chunk.end(), |figures| figures.resets += 1);
            }
            None => self.count(|figures| figures.resets += 1),
        }
    }

    /// Gives all memory back. Monitors see an arena that holds nothing.
    ///
    /// # Safety
    /// Nobody uses what was handed out any more.
    pub(super) unsafe fn end(&self) {
        let mut next = self.chunk.take();
        while let Some(chunk) = next {
            next = chunk.before();
            self.free(chunk);
        }
        self.spare.take().into_iter().for_each(|spare| self.free(spare));
        self.count(|_| {});
    }
}

/// Blocks one by one.
impl Head {
    /// Whether a block is the last that was handed out.
    #[inline(always)]
    pub(super) fn is_last(&self, block: NonNull<u8>) -> bool {
        block.addr().get() == self.gauge.top()
    }

    /// Whether what lies below that address can come back.
    #[inline(always)]
    pub(super) fn may_give_back(&self, end: usize) -> bool {
        end <= self.limit.get()
    }

    /// Takes memory of the present chunk back, up to that address.
    #[inline(always)]
    pub(super) fn give_back_to(&self, top: usize) {
        self.gauge.give_back_to(top);
    }

    /// The last block, which ends at `end`, with that size and alignment, if there is room.
    #[inline]
    pub(super) fn place_last(&self, end: usize, size: usize, align: usize) -> Option<NonNull<u8>> {
        self.place_below(end, size, align).or_else(|| self.place_in_unclean(end, size, align))
    }
}

#[cold]
fn abort(refused: &BumpError) -> ! {
    let line = Line::new();
    let (line, asked, align) = match refused {
        BumpError::Full { asked, align, left, size } => {
            (line.text("a bump arena of ").number(*size).text(" bytes has ").number(*left).text(" left"), asked, align)
        }
        BumpError::Limit { asked, align, held, limit } => {
            let line = line.text("a bump arena that may hold ").number(*limit).text(" bytes holds ").number(*held);
            (line, asked, align)
        }
        _ => os::abort(),
    };
    let line = line.text(", no room for ").number(*asked).text(" aligned to ").number(*align);
    line.text("; aborting, as its overflow strategy says").say();
    os::abort()
}
