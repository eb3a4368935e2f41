// What a replaced `operator new` and `operator delete` owe (C++17 21.6.2): see contract.rs.
#include "check.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <initializer_list>
#include <malloc.h>
#include <new>

static const std::size_t TOO_MUCH = SIZE_MAX - 100;
// Kept from the compiler, so that it cannot leave the calls out or refuse the sizes.
static volatile std::size_t too_much = TOO_MUCH;
static int calls;
static void *hoard[64];

static bool aligned(void *block, std::size_t to) { return reinterpret_cast<std::uintptr_t>(block) % to == 0; }

static void names() {
    static const char *const NAMES[] = {
        "_Znwm", "_Znam", "_ZnwmRKSt9nothrow_t", "_ZnamRKSt9nothrow_t", "_ZnwmSt11align_val_t", "_ZnamSt11align_val_t",
        "_ZnwmSt11align_val_tRKSt9nothrow_t", "_ZnamSt11align_val_tRKSt9nothrow_t", "_ZdlPv", "_ZdaPv",
        "_ZdlPvRKSt9nothrow_t", "_ZdaPvRKSt9nothrow_t", "_ZdlPvm", "_ZdaPvm", "_ZdlPvSt11align_val_t",
        "_ZdaPvSt11align_val_t", "_ZdlPvmSt11align_val_t", "_ZdaPvmSt11align_val_t",
        "_ZdlPvSt11align_val_tRKSt9nothrow_t", "_ZdaPvSt11align_val_tRKSt9nothrow_t"};
    CHECK(sizeof NAMES / sizeof *NAMES == 20);
    for (const char *name : NAMES) {
        Dl_info info;
        void *place = dlsym(RTLD_DEFAULT, name);
        if (!place || !dladdr(place, &info) || !std::strstr(info.dli_fname, "libhoming_preload.so")) {
            std::fprintf(stderr, "%s is not ours\n", name);
            failures++;
        }
    }
}

static void each_form() {
    const std::align_val_t far{256};
    for (std::size_t size : {0, 1, 24, 100, 5000, 100000, 3 << 20}) {
        void *block = ::operator new(size);
        CHECK(block && aligned(block, 16));
        std::memset(block, 1, size);
        ::operator delete(block);
        block = ::operator new[](size);
        CHECK(block && aligned(block, 16));
        ::operator delete[](block);
        ::operator delete(::operator new(size), size);
        ::operator delete[](::operator new[](size), size);
        block = ::operator new(size, std::nothrow);
        CHECK(block);
        ::operator delete(block, std::nothrow);
        block = ::operator new[](size, std::nothrow);
        CHECK(block);
        ::operator delete[](block, std::nothrow);
        block = ::operator new(size, far);
        CHECK(block && aligned(block, 256));
        ::operator delete(block, far);
        block = ::operator new[](size, far);
        CHECK(block && aligned(block, 256));
        ::operator delete[](block, far);
        ::operator delete(::operator new(size, far), size, far);
        ::operator delete[](::operator new[](size, far), size, far);
        block = ::operator new(size, far, std::nothrow);
        CHECK(block && aligned(block, 256));
        ::operator delete(block, far, std::nothrow);
        block = ::operator new[](size, far, std::nothrow);
        CHECK(block && aligned(block, 256));
        ::operator delete[](block, far, std::nothrow);
    }
    void *one = ::operator new(0), *other = ::operator new(0);
    CHECK(one != other);
    ::operator delete(one);
    ::operator delete(other);
    ::operator delete(nullptr);
    ::operator delete[](nullptr);
    ::operator delete(nullptr, std::nothrow);
    ::operator delete(nullptr, far);
}

template <typename New> static bool throws(New form) {
    try {
        form();
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

static void failure() {
    const std::align_val_t far{64};
    CHECK(throws([] { return ::operator new(too_much); }));
    CHECK(throws([] { return ::operator new[](too_much); }));
    CHECK(throws([&] { return ::operator new(too_much, far); }));
    CHECK(throws([&] { return ::operator new[](too_much, far); }));
    CHECK(throws([] { return new char[too_much / 2]; }));
    CHECK(::operator new(too_much, std::nothrow) == nullptr);
    CHECK(::operator new[](too_much, std::nothrow) == nullptr);
    CHECK(::operator new(too_much, far, std::nothrow) == nullptr);
    CHECK(::operator new[](too_much, far, std::nothrow) == nullptr);
}

static void third_time_gives_up() {
    if (++calls == 3) std::set_new_handler(nullptr);
}
static void third_time_throws() {
    if (++calls == 3) throw std::bad_alloc();
}
struct Other {};
static void throws_other() {
    calls++;
    throw Other();
}

static void handler() {
    calls = 0;
    std::set_new_handler(third_time_gives_up);
    CHECK(throws([] { return ::operator new(too_much); }) && calls == 3);
    calls = 0;
    std::set_new_handler(third_time_gives_up);
    CHECK(throws([] { return ::operator new[](too_much, std::align_val_t{64}); }) && calls == 3);
    calls = 0;
    std::set_new_handler(third_time_throws);
    CHECK(throws([] { return ::operator new(too_much); }) && calls == 3);
    // What the handler throws comes through as it is.
    calls = 0;
    std::set_new_handler(throws_other);
    bool through = false;
    try {
        ::operator new(too_much);
    } catch (const Other &) {
        through = true;
    }
    CHECK(through && calls == 1);
}

static void frees_hoard() {
    calls++;
    for (void *&block : hoard) std::free(block), block = nullptr;
}

// Under a limit of the pool: the handler frees, and the request is served then.
static void handler_frees() {
    for (void *&block : hoard) block = std::malloc(1 << 20);
    CHECK(hoard[63] == nullptr && hoard[10] != nullptr);
    std::set_new_handler(frees_hoard);
    void *block = ::operator new(20 << 20);
    CHECK(block && calls == 1);
    ::operator delete(block);
}

static void nothrow_handler() {
    const std::align_val_t far{64};
    calls = 0;
    std::set_new_handler(third_time_gives_up);
    CHECK(::operator new(too_much, std::nothrow) == nullptr && calls == 3);
    calls = 0;
    std::set_new_handler(third_time_gives_up);
    CHECK(::operator new[](too_much, std::nothrow) == nullptr && calls == 3);
    calls = 0;
    std::set_new_handler(third_time_throws);
    CHECK(::operator new(too_much, far, std::nothrow) == nullptr && calls == 3);
    calls = 0;
    std::set_new_handler(third_time_throws);
    CHECK(::operator new[](too_much, far, std::nothrow) == nullptr && calls == 3);
}

int main(int count, char **arguments) {
    static const struct { const char *name; void (*run)(); } PARTS[] = {
        {"names", names}, {"each-form", each_form}, {"failure", failure}, {"handler", handler},
        {"handler-frees", handler_frees}, {"nothrow-handler", nothrow_handler}};
    for (auto &part : PARTS)
        if (count > 1 && !std::strcmp(arguments[1], part.name)) {
            part.run();
            return failures != 0;
        }
    return 9;
}
