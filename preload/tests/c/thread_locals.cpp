// Objects of threads, whose destructors allocate and free: see threads.rs.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <malloc.h>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#include "check.h"

namespace {

std::mutex mutex;
// What threads leave behind for others to free.
std::vector<std::unique_ptr<std::string>> left;
std::atomic<int> destroyed{0};

void leave(std::size_t length) {
    std::unique_ptr<std::string> mine{new std::string(length, 'l')};
    std::lock_guard<std::mutex> guard{mutex};
    if (left.size() > 50) {
        std::swap(left[length % left.size()], mine);
        CHECK(mine->find_first_not_of('l') == std::string::npos);
    } else {
        left.push_back(std::move(mine));
    }
}

struct Below {
    std::vector<std::string> texts = std::vector<std::string>(30, std::string(300, 'b'));

    ~Below() {
        for (const auto &text : texts) CHECK(text == std::string(300, 'b'));
        leave(70000);
        ++destroyed;
    }
};

// First used in the destructor of another: it is made, and destroyed, while the thread ends.
thread_local Below made_at_the_end;

struct Talkative {
    std::map<int, std::string> own;
    char *large = new char[3 << 20];

    ~Talkative() {
        for (const auto &pair : own) CHECK(pair.second == std::string(pair.first * 10, 'o'));
        own.clear();
        delete[] large;
        for (int length = 1; length < 200000; length = length * 3 + 1) leave(length);
        made_at_the_end.texts.emplace_back(300, 'b');
        ++destroyed;
    }
};

thread_local Talkative talkative;

void live() {
    for (int i = 0; i < 100; i++) talkative.own.emplace(i, std::string(i * 10, 'o'));
    talkative.large[0] = 1;
}

}  // namespace

int main() {
    alarm(300);
    constexpr int kThreads = 1000;
    std::size_t before = 0;
    for (int i = 0; i < kThreads; i++) {
        std::thread one{live}, other{live};
        one.join();
        other.join();
        if (i == 100) before = mallinfo2().uordblks;
    }
    std::printf("before=%zu after=%zu\n", before, std::size_t{mallinfo2().uordblks});
    // What is left may be larger, and lie on other slabs.
    CHECK(mallinfo2().uordblks <= before + (4 << 20));
    CHECK(destroyed == 2 * 2 * kThreads);
    return failures != 0;
}
