/* Small faulty programs in C++, one a case: see faulty.c. */
#include "faulty.h"

#include <map>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

namespace {

template <class T> T *told(T *block) { return static_cast<T *>(tell(block, sizeof(T))); }

char *array(size_t size) { return static_cast<char *>(tell(new char[size], size)); }

struct Small {
    long one = 1;
};

struct Large : Small {
    long more[20] = {};
};

struct alignas(256) Wide {
    char bytes[256];
};

/* Another alignment and another size. */
struct alignas(64) Narrow {
    char bytes[64];
};

/* Double frees. */

void delete_twice(size_t) {
    Large *block = told(new Large);
    say_freed();
    delete block;
    delete block;
}

void delete_array_twice(size_t size) {
    char *block = array(size);
    say_freed();
    delete[] block;
    delete[] block;
}

void delete_aligned_twice(size_t) {
    Wide *block = told(new Wide);
    say_freed();
    delete block;
    delete block;
}

void two_owners(size_t) {
    std::unique_ptr<Large> one(told(new Large));
    std::unique_ptr<Large> other(one.get());
    say_freed();
}

void deleted_under_its_container(size_t size) {
    std::vector<char> numbers(size);
    tell(numbers.data(), size);
    give(numbers.data());
}

void freed_then_deleted(size_t size) {
    char *block = array(size);
    give(block);
    delete[] block;
}

void deleted_in_two_threads(size_t) {
    Large *block = told(new Large);
    std::thread([&] {
        say_freed();
        delete block;
    }).join();
    delete block;
}

/* Pointers into blocks, and others. */

void delete_of_an_element(size_t size) {
    char *block = array(size);
    ::operator delete(other_pointer(block + 16));
}

void delete_of_a_short_string(size_t) {
    std::string text("short");
    ::operator delete(other_pointer(text.data()));
}

void delete_of_a_reference(size_t) {
    Large here;
    Large &there = here;
    ::operator delete(other_pointer(reinterpret_cast<char *>(&there)));
}

/* Sizes and alignments that are said wrongly. */

void delete_without_virtual_destructor(size_t) {
    Small *block = told(new Large);
    delete block;
}

void sized_delete(size_t size) { ::operator delete(array(size), size + 8); }
void sized_delete_of_array(size_t size) { ::operator delete[](array(size), size - 1); }

void delete_as_another_type(size_t) {
    Wide *block = told(new Wide);
    ::operator delete(block, sizeof(Narrow), std::align_val_t(alignof(Wide)));
}

void delete_aligned_otherwise(size_t) {
    Wide *block = told(new Wide);
    ::operator delete(block, std::align_val_t(64));
}

void delete_unaligned_as_aligned(size_t size) { ::operator delete(array(size), std::align_val_t(64)); }

void delete_aligned_and_sized_otherwise(size_t) {
    Wide *block = told(new Wide);
    ::operator delete(block, sizeof(Wide), std::align_val_t(1024));
}

/* Writing past blocks. */

void written_past_a_vector(size_t size) {
    std::vector<char> numbers(size);
    tell(numbers.data(), size);
    numbers.data()[size] = 1;
}

void written_past_an_array(size_t size) {
    char *block = array(size);
    for (size_t i = 0; i <= size; i++) block[i] = 0;
    delete[] block;
}

void written_before_an_array(size_t size) {
    char *block = array(size);
    block[-1] = 0;
    delete[] block;
}

void written_past_an_object(size_t) {
    Wide *block = told(new Wide);
    volatile int past = 256;
    block->bytes[past] = 1;
    delete block;
}

/* Writing to what was freed. */

void written_by_an_iterator_of_before(size_t size) {
    std::vector<char> numbers(size);
    tell(numbers.data(), size);
    auto before = numbers.begin();
    say_freed();
    numbers.reserve(size * 4);
    *before = 1;
}

void written_through_a_reference_of_before(size_t) {
    auto holder = std::make_unique<Large>();
    Large &there = *told(holder.get());
    say_freed();
    holder.reset();
    there.more[3] = 7;
}

void erased_node_written_to(size_t) {
    std::map<int, long> numbers{{1, 1}, {2, 2}};
    long *value = &numbers[1];
    /* The node lies in a block of its own; only its size is libstdc++'s. */
    tell(reinterpret_cast<char *>(value) - 40, 48);
    say_freed();
    numbers.erase(1);
    *value = 3;
}

/* Leaks. */

void lost_object(size_t) { told(new Large); }
void lost_array(size_t size) { array(size); }

void released_and_forgotten(size_t) {
    std::unique_ptr<Large> owner(told(new Large));
    owner.release();
}

struct Knot {
    std::shared_ptr<Knot> other;
};

void cycle_of_shared_pointers(size_t) {
    struct Held : Knot {};
    auto one = std::make_shared<Held>(), other = std::make_shared<Held>();
    one->other = other;
    other->other = one;
    /* The count stands before the object. */
    tell(reinterpret_cast<char *>(one.get()) - 16, 32);
}

void lost_by_an_exception(size_t size) {
    try {
        char *block = array(size);
        if (size > 0) throw 1;
        delete[] block;
    } catch (int) {
    }
}

__attribute__((noinline)) void far_down(void (*act)(size_t), size_t size) {
    act(size);
    wipe_below();
}

const struct {
    const char *name;
    void (*act)(size_t);
    bool is_leak;
} CASES[] = {
#define CASE(function) {#function, function, false}
#define LEAK(function) {#function, function, true}
    CASE(delete_twice),
    CASE(delete_array_twice),
    CASE(delete_aligned_twice),
    CASE(two_owners),
    CASE(deleted_under_its_container),
    CASE(freed_then_deleted),
    CASE(deleted_in_two_threads),
    CASE(delete_of_an_element),
    CASE(delete_of_a_short_string),
    CASE(delete_of_a_reference),
    CASE(delete_without_virtual_destructor),
    CASE(sized_delete),
    CASE(sized_delete_of_array),
    CASE(delete_as_another_type),
    CASE(delete_aligned_otherwise),
    CASE(delete_unaligned_as_aligned),
    CASE(delete_aligned_and_sized_otherwise),
    CASE(written_past_a_vector),
    CASE(written_past_an_array),
    CASE(written_before_an_array),
    CASE(written_past_an_object),
    CASE(written_by_an_iterator_of_before),
    CASE(written_through_a_reference_of_before),
    CASE(erased_node_written_to),
    LEAK(lost_object),
    LEAK(lost_array),
    LEAK(released_and_forgotten),
    LEAK(cycle_of_shared_pointers),
    LEAK(lost_by_an_exception),
};

} // namespace

int main(int count, char **arguments) {
    size_t size = count > 2 ? strtoul(arguments[2], nullptr, 10) : 0;
    for (auto &each : CASES)
        if (count > 1 && !strcmp(each.name, arguments[1])) {
            each.is_leak ? far_down(each.act, size) : each.act(size);
            return 0;
        }
    fprintf(stderr, "no such case\n");
    return 9;
}
