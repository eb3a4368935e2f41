/* A program of C++ without a fault: see faultless.rs. */
#include "check.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <future>
#include <list>
#include <map>
#include <memory>
#include <regex>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace {

struct alignas(512) Wide {
    char bytes[512] = {};
};

struct Base {
    virtual ~Base() = default;
    std::string name = "a name that is too long to be kept within";
};

struct Derived : Base, std::enable_shared_from_this<Derived> {
    std::vector<std::unique_ptr<Base>> parts;
};

std::map<int, std::string> of_the_program{{1, "made before main, and freed after it, at some length"}};
thread_local std::vector<std::string> of_the_thread;

void containers() {
    std::vector<std::string> words;
    for (int i = 0; i < 3000; i++) words.push_back(std::to_string(i) + std::string(i % 70, 'w'));
    std::sort(words.begin(), words.end());
    std::list<std::string> list(words.begin(), words.end());
    list.remove_if([](const std::string &word) { return word.size() % 2; });
    std::deque<Wide> wide(20);
    std::vector<Wide> wider(9);
    wider.resize(100);
    std::unordered_map<std::string, std::set<int>> index;
    for (auto &word : words) index[word.substr(0, 2)].insert(static_cast<int>(word.size()));
    index.erase("1");
    std::stringstream stream;
    for (auto &word : list) stream << word << ' ' << 1.5 << '\n';
    CHECK(stream.str().size() > 10000);
    CHECK(std::regex_search(stream.str().substr(0, 100), std::regex("[0-9]+w*")));
    for (size_t size : {size_t(0), size_t(100), size_t(100000), size_t(5) << 20}) {
        delete[] new char[size];
        ::operator delete(::operator new(size), size);
        ::operator delete(::operator new(size, std::align_val_t(4096)), size, std::align_val_t(4096));
        ::operator delete[](::operator new[](size, std::align_val_t(8)), std::align_val_t(8));
        delete[] new (std::nothrow) Wide[size / 4096 + 1];
    }
}

void objects() {
    auto derived = std::make_shared<Derived>();
    derived->parts.push_back(std::make_unique<Derived>());
    std::shared_ptr<std::string> inner(derived, &derived->name);
    std::weak_ptr<Derived> weak = derived;
    derived.reset();
    CHECK(!weak.expired() && inner->size() > 20);
    std::function<int()> closure = [inner, large = std::vector<int>(1000, 3)] { return large[999]; };
    CHECK(closure() == 3);
}

void exceptions() {
    for (int i = 0; i < 100; i++) {
        try {
            auto lost = std::make_unique<Wide[]>(3);
            throw std::runtime_error("thrown with a message of some length " + std::to_string(i));
        } catch (const std::exception &error) {
            of_the_thread.push_back(error.what());
        }
    }
}

} // namespace

int main() {
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; i++) threads.emplace_back([] {
        containers();
        exceptions();
    });
    auto future = std::async(std::launch::async, objects);
    objects();
    exceptions();
    future.get();
    for (auto &thread : threads) thread.join();
    return failures != 0;
}
