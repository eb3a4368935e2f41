/* What C programs can ask of homing beyond malloc: memory on a chosen node, and bump arenas.
 *
 * Made from preload/src/interface.rs by cbindgen: change it there. Link with libhoming_preload.so, which puts homing under
 * the program's malloc as well:
 *
 *     cc program.c -I preload/include -L target/release -lhoming_preload -Wl,-rpath,$PWD/target/release
 *
 * Functions may be called by any thread, but one arena by one thread at a time. Each may be called at any time in a thread's
 * life, also from its last destructors; none throws. */

#ifndef HOMING_H
#define HOMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What came of a call. `homing_status_text` says it in words.
typedef enum {
    // It was done.
    HOMING_STATUS_OK = 0,
    // An argument is null that must not be.
    HOMING_STATUS_NULL,
    // The alignment is no power of two, or the size is beyond PTRDIFF_MAX.
    HOMING_STATUS_BAD_LAYOUT,
    // A setting has a value that it cannot have.
    HOMING_STATUS_BAD_CONFIG,
    // The machine has no node of that number.
    HOMING_STATUS_NO_SUCH_NODE,
    // The node is there, and has no memory.
    HOMING_STATUS_NODE_WITHOUT_MEMORY,
    // The node has memory, and this process may not take any of it (its cpuset).
    HOMING_STATUS_NODE_NOT_ALLOWED,
    // There is no memory for so many bytes: on the node that was named, or at all.
    HOMING_STATUS_NO_MEMORY,
    // The block lies on another node than was said; nothing was freed.
    HOMING_STATUS_WRONG_NODE,
    // No header names the block's node: it is large and placed by first touch, or not homing's.
    HOMING_STATUS_UNPLACED,
    // The kernel does not tell where memory or threads are.
    HOMING_STATUS_UNKNOWN,
    // The pointer is not homing's, or its memory is gone already; nothing was freed.
    HOMING_STATUS_FOREIGN,
    // The block was freed already, or never handed out; nothing was freed.
    HOMING_STATUS_DOUBLE_FREE,
    // The pointer lies within a block, not at its start; nothing was freed.
    HOMING_STATUS_INTERIOR,
    // The block was written beyond its ends (noticed under HOMING_DEBUG=1); nothing was freed.
    HOMING_STATUS_OVERWRITTEN,
    // The arena is in use already by the calling thread: a call came back in from within another.
    HOMING_STATUS_REENTERED,
    // The checkpoint is another arena's; nothing was restored.
    HOMING_STATUS_FOREIGN_CHECKPOINT,
    // What came before the checkpoint has been given up since; nothing was restored.
    HOMING_STATUS_STALE_CHECKPOINT,
    // The checkpoint lies ahead of where the arena is now; nothing was restored.
    HOMING_STATUS_FUTURE_CHECKPOINT,
    // Something else went wrong.
    HOMING_STATUS_OTHER,
} homing_status;

// What an arena does with a request that it has no room for.
typedef enum {
    // It obtains another chunk, as far as its limit allows.
    HOMING_BUMP_OVERFLOW_GROW = 0,
    // The request fails: the arena never has more than its pool_size.
    HOMING_BUMP_OVERFLOW_ERROR,
    // One line on standard error, and the process is aborted.
    HOMING_BUMP_OVERFLOW_ABORT,
} homing_bump_overflow;

// An arena that hands memory out by moving one pointer, and takes it back all at once.
typedef struct homing_bump homing_bump;

// The settings of an arena; begin with those of `homing_bump_config_default`.
typedef struct {
    // Bytes that it obtains at its first use.
    size_t pool_size;
    // One of homing_bump_overflow.
    int overflow;
    // The node whose memory it takes, and no other's; -1 for that of the thread that asks, at each chunk.
    int node;
    // Whether all memory that it hands out reads as zero: what was used is cleared when it comes back.
    bool zero_on_reset;
    // Bytes that it may hold at most (`capacity` of its figures), whatever it does at an overflow; 0: no limit.
    size_t limit;
} homing_bump_config;

// A point that an arena can be taken back to. Plain data: it need not be given up.
typedef struct {
    // For homing alone.
    uint64_t words[4];
} homing_checkpoint;

// The figures of an arena at one moment.
typedef struct {
    // Bytes handed out, with what alignment leaves out between them.
    size_t used;
    // Bytes held to hand out.
    size_t capacity;
    // The most bytes that were ever used at once.
    size_t high_water_mark;
    // Requests that the memory held had no room for.
    uint64_t overflows;
    // How often it was reset.
    uint64_t resets;
    // Which part of the memory held is used: 0.0 to 1.0.
    double utilisation;
} homing_bump_stats;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The status in words, without a full stop; for numbers that are none, too. Never null.
const char *homing_status_text(int status);

// A block of `size` bytes on that node, whichever node the calling thread runs on, put into `*block` (null where the
// status is not HOMING_STATUS_OK). It is aligned to `align`, a power of two; a size of 0 gives a block of its own, too. No
// other node serves instead. It is freed by `free`, or by `homing_free_on_node`, by any thread.
//
// # Safety
// `block` is null or may be written to.
homing_status homing_alloc_on_node(size_t size,
                                   size_t align,
                                   uint16_t node,
                                   void **block);

// Frees a block that is said to lie on that node. Where it lies on another, nothing is freed, and the status is
// HOMING_STATUS_WRONG_NODE. Null is fine, and nothing.
//
// # Safety
// The block is one of homing's, of that size and alignment, and not used any more if it was freed.
homing_status homing_free_on_node(void *block, size_t size, size_t align, uint16_t node);

// Frees a block as `free` does, or says why it cannot be freed, and then does nothing. Null is fine, and nothing.
//
// # Safety
// If the pointer is that of a live block, the block is the caller's, and not used any more if it was freed. No other
// thread frees it at the same time.
homing_status homing_try_free(void *block);

// The node that a block's header names; -1 for large blocks that lie where they are first touched or on all nodes in turn,
// and for most pointers that are not homing's. No system call, no lock.
//
// # Safety
// Null, or a live block of homing's.
int homing_node_of(const void *block);

// The node that the page at that address lies on, by the kernel's word; -1 where it is not in memory, or the kernel does
// not tell.
int homing_resident_node(const void *address);

// The node that the calling thread runs on now; -1 where the kernel does not tell.
int homing_current_node(void);

// The node whose memory the calling thread is given now, by the policy and where it runs; -1 where that is spread over all.
int homing_home_node(void);

// Gives up what the allocator keeps for the calling thread, its arena and its bump arena, as the thread's end would; the
// next use begins with clean ones. What the thread has allocated stays, but for what lies in its bump arena.
void homing_thread_cleanup(void);

// Gives the memory that nobody uses back to the kernel now, and gives how many bytes went back: in slots of 64 KiB and whole
// large blocks, so that where the program has written to a part of them only, the resident memory falls by less. What other
// threads have at hand stays (2 MiB of blocks each, and one of up to 4 MiB of four of them), and so does HOMING_POOL_SIZE.
// Any thread may call it at any time. `malloc_trim` does the same, and tells only whether anything went back.
size_t homing_trim(void);

// The settings that hold where none are chosen: 64 KiB to begin with, growing, zeroed, on the node of the thread that asks.
homing_bump_config homing_bump_config_default(void);

// Makes an arena with these settings (the default ones for null), and puts it into `*bump` (null where the status is not
// HOMING_STATUS_OK).
//
// # Safety
// `config` is null or may be read, `bump` is null or may be written to.
homing_status homing_bump_create(const homing_bump_config *config,
                                 homing_bump **bump);

// Begins a use of the calling thread's own arena, which is made at the first, and puts it into `*bump` (null where the
// status is not HOMING_STATUS_OK). `homing_bump_destroy` ends the use; the arena and what lies in it stay until they are
// reset, until `homing_thread_cleanup`, or until the thread ends. Before that a second use is HOMING_STATUS_REENTERED.
// HOMING_BUMP_SIZE, HOMING_BUMP_ZERO, HOMING_BUMP_OVERFLOW and HOMING_BUMP_LIMIT set it up.
//
// # Safety
// `bump` is null or may be written to.
homing_status homing_bump_local(homing_bump **bump);

// Gives up an arena and all that lies in it; or ends the use of a thread's own. Null is fine, and nothing.
//
// # Safety
// Null, or an arena that is not used any more, by the thread that began the use if it is a thread's own.
void homing_bump_destroy(homing_bump *bump);

// `size` bytes aligned to `align`, a power of two; null, and `errno` ENOMEM, EINVAL or EBUSY, where that cannot be: no room
// or memory, an alignment that is no power of two, a call that is found to have come in on top of another for the same
// arena. A signal handler must not use an arena that the thread it interrupts may be using: it is found out only while that
// one obtains memory, and overwrites blocks otherwise. `homing_bump_local` always tells.
//
// # Safety
// A live arena, used by the calling thread alone.
void *homing_bump_alloc(homing_bump *bump,
                        size_t size,
                        size_t align);

// Takes back all that was handed out. Every checkpoint is stale from now on.
//
// # Safety
// A live arena, used by the calling thread alone; what was handed out is not used any more.
void homing_bump_reset(homing_bump *bump);

// The point that the arena is at.
//
// # Safety
// A live arena, used by the calling thread alone.
homing_checkpoint homing_bump_checkpoint(homing_bump *bump);

// Takes back all that was handed out since the checkpoint was taken; or nothing, where the checkpoint is another arena's
// (HOMING_STATUS_FOREIGN_CHECKPOINT), what came before it was given up since (.._STALE_CHECKPOINT), or it lies ahead
// (.._FUTURE_CHECKPOINT).
//
// # Safety
// A live arena, used by the calling thread alone; what was handed out since is not used any more.
homing_status homing_bump_restore(homing_bump *bump,
                                  homing_checkpoint checkpoint);

// The arena's figures. Any thread may ask, without a lock, while the arena is used by another.
//
// # Safety
// A live arena.
homing_bump_stats homing_bump_read_stats(const homing_bump *bump);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* HOMING_H */
