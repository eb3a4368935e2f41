// A library in C++ that a program in C loads: with it comes the C++ runtime, after the shared object. What `operator new`
// owes where there is no memory (C++17 21.6.2) it owes here, too. See loading.rs.
#include <cstddef>
#include <new>

#include "check.h"

static int handled;

// Gives up when it is called for the third time.
static void handle() {
    if (++handled == 3) std::set_new_handler(nullptr);
}

// Whether it throws std::bad_alloc, after so many calls of the handler.
template <typename Allocate> static bool throws(Allocate allocate, int calls) {
    handled = 0;
    try {
        allocate();
    } catch (const std::bad_alloc &) {
        return handled == calls;
    }
    return false;
}

extern "C" int plugin_test() {
    static const std::size_t HUGE_SIZE = std::size_t{1} << 62;
    const std::align_val_t align{64};
    auto plain = [] { return ::operator new(HUGE_SIZE); };
    auto aligned = [=] { return ::operator new[](HUGE_SIZE, align); };
    CHECK(throws(plain, 0));
    CHECK(throws(aligned, 0));
    std::set_new_handler(handle);
    CHECK(throws(plain, 3));
    std::set_new_handler(handle);
    CHECK(throws(aligned, 3));
    handled = 0;
    std::set_new_handler(handle);
    CHECK(!::operator new(HUGE_SIZE, std::nothrow) && handled == 3);
    handled = 0;
    std::set_new_handler(handle);
    CHECK(!::operator new[](HUGE_SIZE, align, std::nothrow) && handled == 3);
    return failures;
}
