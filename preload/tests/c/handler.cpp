// Under a limit of the pool: the new-handler frees what the program hoards, and the request is served then.
#include "check.h"

#include <cstdlib>
#include <new>

static int calls;
static void *hoard[64];

static void frees_hoard() {
    calls++;
    for (void *&block : hoard) std::free(block), block = nullptr;
}

int main() {
    for (void *&block : hoard) block = std::malloc(1 << 20);
    CHECK(hoard[63] == nullptr && hoard[10] != nullptr);
    std::set_new_handler(frees_hoard);
    void *block = ::operator new(20 << 20);
    CHECK(block && calls == 1);
    ::operator delete(block);
    return failures != 0;
}
