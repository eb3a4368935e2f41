// What a replaced `operator new` and `operator delete` owe (C++17 21.6.2), and how libstdc++ has them: see contract.rs.
#include "contract.h"

#include <cstring>
#include <initializer_list>
#include <new>
#include <sys/resource.h>
#include <sys/wait.h>

// Each form by its symbol, so that no compiler chooses another or leaves the call out.
struct New {
    const char *symbol;
    bool takes_align, is_nothrow;

    // Calls it; blocks of forms without an alignment are aligned to 16.
    void *operator()(std::size_t size, std::size_t align = 64) const {
        void *form = named(symbol);
        const std::nothrow_t &nothrow = std::nothrow;
        using Size = std::size_t;
        if (takes_align && is_nothrow)
            return reinterpret_cast<void *(*)(Size, Size, const std::nothrow_t &)>(form)(size, align, nothrow);
        if (takes_align) return reinterpret_cast<void *(*)(Size, Size)>(form)(size, align);
        if (is_nothrow) return reinterpret_cast<void *(*)(std::size_t, const std::nothrow_t &)>(form)(size, nothrow);
        return reinterpret_cast<void *(*)(std::size_t)>(form)(size);
    }
};

static const New NEWS[] = {
    {"_Znwm", false, false},
    {"_Znam", false, false},
    {"_ZnwmRKSt9nothrow_t", false, true},
    {"_ZnamRKSt9nothrow_t", false, true},
    {"_ZnwmSt11align_val_t", true, false},
    {"_ZnamSt11align_val_t", true, false},
    {"_ZnwmSt11align_val_tRKSt9nothrow_t", true, true},
    {"_ZnamSt11align_val_tRKSt9nothrow_t", true, true},
};

struct Delete {
    const char *symbol;
    bool takes_size, takes_align, is_nothrow;

    void operator()(void *block, std::size_t size, std::size_t align) const {
        void *form = named(symbol);
        const std::nothrow_t &nothrow = std::nothrow;
        if (takes_size && takes_align)
            reinterpret_cast<void (*)(void *, std::size_t, std::size_t)>(form)(block, size, align);
        else if (takes_align && is_nothrow)
            reinterpret_cast<void (*)(void *, std::size_t, const std::nothrow_t &)>(form)(block, align, nothrow);
        else if (takes_size || takes_align)
            reinterpret_cast<void (*)(void *, std::size_t)>(form)(block, takes_size ? size : align);
        else if (is_nothrow) reinterpret_cast<void (*)(void *, const std::nothrow_t &)>(form)(block, nothrow);
        else reinterpret_cast<void (*)(void *)>(form)(block);
    }
};

static const Delete DELETES[] = {
    {"_ZdlPv", false, false, false},
    {"_ZdaPv", false, false, false},
    {"_ZdlPvRKSt9nothrow_t", false, false, true},
    {"_ZdaPvRKSt9nothrow_t", false, false, true},
    {"_ZdlPvm", true, false, false},
    {"_ZdaPvm", true, false, false},
    {"_ZdlPvSt11align_val_t", false, true, false},
    {"_ZdaPvSt11align_val_t", false, true, false},
    {"_ZdlPvmSt11align_val_t", true, true, false},
    {"_ZdaPvmSt11align_val_t", true, true, false},
    {"_ZdlPvSt11align_val_tRKSt9nothrow_t", false, true, true},
    {"_ZdaPvSt11align_val_tRKSt9nothrow_t", false, true, true},
};

// The plain delete for what that form of new gave.
static void give_back(const New &form, void *block) {
    if (form.takes_align) ::operator delete(block, std::align_val_t{64});
    else ::operator delete(block);
}

// ---- Every form of new ----------------------------------------------------------------------------------------------

static void zero_bytes_are_never_null(const void *with) {
    const New &form = *static_cast<const New *>(with);
    void *blocks[100];
    for (int i = 0; i < 100; i++) {
        HOLDS(blocks[i] = form(0));
        for (int other = 0; other < i; other++) HOLDS(blocks[i] != blocks[other]);
    }
    for (void *block : blocks) give_back(form, block);
}

static void every_size_is_served(const void *with) {
    const New &form = *static_cast<const New *>(with);
    static void *blocks[200];
    static std::size_t sizes[200];
    int count = 0;
    for (std::size_t size = 0; size < 50 * MIB; size = size * 5 / 4 + 1) {
        sizes[count] = size;
        KEEPS_ERRNO(blocks[count] = form(size));
        HOLDS(blocks[count] && IS_ALIGNED(blocks[count], form.takes_align ? 64 : 16));
        HOLDS(malloc_usable_size(blocks[count]) >= size);
        std::memset(blocks[count], count + 1, size);
        count++;
    }
    for (int i = 0; i < count; i++) {
        HOLDS(all(blocks[i], sizes[i], i + 1));
        give_back(form, blocks[i]);
    }
}

static void every_alignment_is_kept(const void *with) {
    const New &form = *static_cast<const New *>(with);
    for (std::size_t align = 1; align <= 64 * MIB; align *= 2)
        for (std::size_t size : {0, 1, 100, 5000, 70000, 3000000}) {
            void *block = form(size, align);
            HOLDS(block && IS_ALIGNED(block, align));
            std::memset(block, 1, size);
            ::operator delete(block, std::align_val_t{align});
        }
}

enum Outcome { SERVED, NOTHING, BAD_ALLOC, OTHER };
struct Other {};

static Outcome outcome_of(const New &form, std::size_t size, std::size_t align = 64) {
    try {
        void *block = form(size, align);
        if (!block) return NOTHING;
        give_back(form, block);
        return SERVED;
    } catch (const std::bad_alloc &) {
        return BAD_ALLOC;
    } catch (const Other &) {
        return OTHER;
    }
}

// How a form says that there is no memory.
static Outcome refusal(const New &form) { return form.is_nothrow ? NOTHING : BAD_ALLOC; }

static void without_memory_it_is_refused(const void *with) {
    const New &form = *static_cast<const New *>(with);
    static const std::size_t BEFORE_THE_END[] = {0, 1, 15, 16, 63, 64, 65, 4095, 4096, 65536, 2 << 20, 64 << 20};
    for (std::size_t less : BEFORE_THE_END) {
        HOLDS(outcome_of(form, SIZE_MAX - less) == refusal(form));
        HOLDS(outcome_of(form, static_cast<std::size_t>(PTRDIFF_MAX) + 1 + less) == refusal(form));
        HOLDS(outcome_of(form, PTRDIFF_MAX - less) == refusal(form));
    }
    for (std::size_t size = KIB << 38; size < SIZE_MAX / 2; size *= 2) HOLDS(outcome_of(form, size) == refusal(form));
}

static void beyond_the_end_it_is_refused(const void *with) {
    const New &form = *static_cast<const New *>(with);
    std::size_t align = 16;
    for (; align < KIB << 38; align *= 2)
        for (std::size_t end : {SIZE_MAX, static_cast<std::size_t>(PTRDIFF_MAX)})
            for (std::size_t more : {0, 1, 2}) HOLDS(outcome_of(form, end - align + more, align) == refusal(form));
    // No address is aligned so.
    for (; align; align *= 2) HOLDS(outcome_of(form, 1, align) == refusal(form));
}

static void a_bad_alignment_is_refused(const void *with) {
    const New &form = *static_cast<const New *>(with);
    for (std::size_t align : {std::size_t{0}, std::size_t{3}, std::size_t{24}, SIZE_MAX})
        HOLDS(outcome_of(form, 100, align) == refusal(form));
}

static int calls;
static void third_time_gives_up() {
    if (++calls == 3) std::set_new_handler(nullptr);
}
static void third_time_throws() {
    if (++calls == 3) throw std::bad_alloc();
}
static void throws_other() {
    calls++;
    throw Other();
}

static Outcome with_handler(const New &form, std::new_handler handler) {
    calls = 0;
    std::set_new_handler(handler);
    Outcome outcome = outcome_of(form, too_much);
    std::set_new_handler(nullptr);
    return outcome;
}

static void the_handler_is_called_until_there_is_none(const void *with) {
    const New &form = *static_cast<const New *>(with);
    HOLDS(with_handler(form, third_time_gives_up) == refusal(form) && calls == 3);
}

static void what_a_handler_throws_ends_it(const void *with) {
    const New &form = *static_cast<const New *>(with);
    HOLDS(with_handler(form, third_time_throws) == refusal(form) && calls == 3);
    HOLDS(with_handler(form, throws_other) == (form.is_nothrow ? NOTHING : OTHER) && calls == 1);
    // Nothing was left half done.
    HOLDS(outcome_of(form, 100) == SERVED && outcome_of(form, 3000000) == SERVED);
}

// Kernels count what is writable (RLIMIT_DATA, Linux 4.7): a limit below that refuses, until the handler lifts it.
static rlimit as_it_was;

static void lifts_the_limit() {
    calls++;
    setrlimit(RLIMIT_DATA, &as_it_was);
}

static bool is_served_once_the_limit_is_lifted(const New &form) {
    if (getrlimit(RLIMIT_DATA, &as_it_was)) return false;
    rlimit little{4096, as_it_was.rlim_max};
    if (setrlimit(RLIMIT_DATA, &little)) return false;
    calls = 0;
    std::set_new_handler(lifts_the_limit);
    return outcome_of(form, KIB * MIB) == SERVED && calls == 1;
}

// In a child: what was once writable may stay so, and would be there for the next check.
static void the_request_is_tried_again(const void *with) {
    pid_t child = fork();
    if (child == 0) _exit(!is_served_once_the_limit_is_lifted(*static_cast<const New *>(with)));
    int status = -1;
    HOLDS(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

// ---- Every form of delete -------------------------------------------------------------------------------------------

static void null_is_fine(const void *with) {
    const Delete &form = *static_cast<const Delete *>(with);
    KEEPS_ERRNO(form(nullptr, 0, 16));
    KEEPS_ERRNO(form(nullptr, 1000, 4096));
}

static void what_was_deleted_serves_again(const void *with) {
    const Delete &form = *static_cast<const Delete *>(with);
    std::size_t before = resident();
    for (std::size_t size : {1, 100, 3000, 50000, 1000000, 6000000})
        for (std::size_t sum = 0; sum < 100 * MIB; sum += size + 1000)
            for (std::size_t align : {64, 4096}) {
                void *block = form.takes_align ? ::operator new(size, std::align_val_t{align}) : ::operator new(size);
                std::memset(block, 1, size);
                KEEPS_ERRNO(form(block, size, align));
            }
    HOLDS(resident() < before + 64 * MIB);
}

__attribute__((constructor)) static void add_forms() {
    for (const New &form : NEWS) {
        add_check(form.symbol, "0 bytes are never null, and blocks of their own", zero_bytes_are_never_null, &form);
        add_check(form.symbol, "every size is served, aligned, apart from others", every_size_is_served, &form);
        add_check(form.symbol, "without memory it throws bad_alloc, or gives null where it may not throw",
                  without_memory_it_is_refused, &form);
        add_check(form.symbol, "the handler is called until there is none", the_handler_is_called_until_there_is_none,
                  &form);
        add_check(form.symbol, "what a handler throws goes through, or is null where it may not throw",
                  what_a_handler_throws_ends_it, &form);
        add_check(form.symbol, "once the handler has made room, the request is served", the_request_is_tried_again,
                  &form);
        if (!form.takes_align) continue;
        add_check(form.symbol, "every alignment to 64 MiB is kept", every_alignment_is_kept, &form);
        add_check(form.symbol, "an alignment and a size that reach beyond the end are refused",
                  beyond_the_end_it_is_refused, &form);
        add_check(form.symbol, "an alignment that is no power of two is refused", a_bad_alignment_is_refused, &form);
    }
    for (const Delete &form : DELETES) {
        add_check(form.symbol, "null is fine", null_is_fine, &form);
        add_check(form.symbol, "what was deleted serves again; errno stays", what_was_deleted_serves_again, &form);
    }
}

// ---- As programs write it -------------------------------------------------------------------------------------------

struct alignas(256) Far {
    static int alive;
    char bytes[300];
    Far() {
        if (++alive == 7) throw Other();
    }
    ~Far() { alive--; }
};
int Far::alive;

CHECKED("_ZnamSt11align_val_t", "new of objects aligned beyond the ordinary, and delete of them") {
    Far *one = new Far, *some = new Far[5];
    HOLDS(IS_ALIGNED(one, 256) && IS_ALIGNED(some, 256) && Far::alive == 6);
    delete one;
    delete[] some;
    HOLDS(Far::alive == 0);
}

CHECKED("_ZdaPvSt11align_val_t", "is called when a constructor throws") {
    std::size_t before = resident();
    for (int round = 0; round < 100; round++) {
        bool through = false;
        try {
            delete[] new Far[5000];
        } catch (const Other &) {
            through = true;
        }
        HOLDS(through);
        Far::alive = 0;
    }
    HOLDS(resident() < before + 64 * MIB);
}

CHECKED("_Znam", "an array too long for any size is bad_alloc") {
    for (std::size_t count : {std::size_t{too_much}, SIZE_MAX / 2, SIZE_MAX / 8 + 1}) {
        bool thrown = false;
        try {
            delete[] new long[count];
        } catch (const std::bad_alloc &) {
            thrown = true;
        }
        HOLDS(thrown);
    }
}
