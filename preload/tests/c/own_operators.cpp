// A program that replaces two operators, as was the custom before C++14; by the standard ([new.delete]) all other forms
// lead to them. See loading.rs.
#include <cstdlib>
#include <list>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "own_allocator.h"

void *operator new(std::size_t size) {
    if (void *block = own_malloc(size)) return block;
    throw std::bad_alloc{};
}

void operator delete(void *block) noexcept {
    own_release(block);
}

namespace {

struct Thing {
    char bytes[100];
    ~Thing() { bytes[0] = 0; }
};

// That what is made in a way comes from the own allocator, and goes back to it.
template <class Make, class Free>
void check(const char *what, Make make, Free free) {
    long served = own_served, live = own_live;
    auto *block = make();
    if (own_served != served + 1) {
        std::fprintf(stderr, "%s is not served by the program's operator new\n", what);
        failures++;
    }
    free(block);
    if (own_live != live) {
        std::fprintf(stderr, "%s does not go back to the program's operator delete\n", what);
        failures++;
    }
}

void use_everything() {
    std::map<std::string, std::vector<int>> map;
    std::list<std::shared_ptr<std::string>> list;
    for (int i = 0; i < 2000; i++) {
        map[std::string(i % 100 + 20, 'k') + std::to_string(i)].assign(i % 500, i);
        list.push_back(std::make_shared<std::string>(i, 'l'));
        if (i % 3 == 0) list.pop_front();
    }
    try {
        throw std::string(1000, 'e');
    } catch (const std::string &text) {
        CHECK(text.size() == 1000);
    }
    std::unique_ptr<Thing[]> things{new Thing[50]};
    CHECK(map.size() == 2000);
}

}  // namespace

int main() {
    check("new", [] { return new Thing; }, [](Thing *thing) { delete thing; });
    check("new[]", [] { return new Thing[7]; }, [](Thing *things) { delete[] things; });
    check("new[] of bytes", [] { return new char[70]; }, [](char *bytes) { delete[] bytes; });
    check("nothrow new", [] { return new (std::nothrow) Thing; }, [](Thing *thing) { delete thing; });
    check("nothrow new[]", [] { return new (std::nothrow) Thing[7]; }, [](Thing *things) { delete[] things; });
    check("new, sized delete", [] { return ::operator new(100); },
          [](void *block) { ::operator delete(block, std::size_t{100}); });
    check("new[], sized delete[]", [] { return ::operator new[](100); },
          [](void *block) { ::operator delete[](block, std::size_t{100}); });
    check("new, nothrow delete", [] { return ::operator new(100); },
          [](void *block) { ::operator delete(block, std::nothrow); });
    check("new[], nothrow delete[]", [] { return ::operator new[](100); },
          [](void *block) { ::operator delete[](block, std::nothrow); });
    CHECK(!::operator new(std::size_t{1} << 40, std::nothrow));
    CHECK(!::operator new[](std::size_t{1} << 40, std::nothrow));
    struct alignas(64) Wide { char bytes[64]; };
    delete new Wide;
    delete[] new Wide[3];
    use_everything();
    for (int i = 0; i < 10; i++) std::thread{use_everything}.join();
    return failures != 0;
}
