// The whole standard library and templates enough to keep the compiler's tables busy; run, it prints its results.
#include <bits/stdc++.h>

template <unsigned N> struct Fibonacci {
    static constexpr unsigned long value = Fibonacci<N - 1>::value + Fibonacci<N - 2>::value;
};
template <> struct Fibonacci<1> { static constexpr unsigned long value = 1; };
template <> struct Fibonacci<0> { static constexpr unsigned long value = 0; };

template <typename Key> struct Tables {
    std::map<Key, std::vector<std::string>> ordered;
    std::unordered_map<Key, std::set<std::string>> hashed;
    std::multimap<Key, std::shared_ptr<std::string>> shared;

    void add(Key key, const std::string &text) {
        ordered[key].push_back(text);
        hashed[key].insert(text + "!");
        shared.emplace(key, std::make_shared<std::string>(text + "?"));
    }
    std::size_t size() const {
        std::size_t total = 0;
        for (const auto &[key, texts] : ordered)
            total = std::accumulate(texts.begin(), texts.end(), total,
                                    [](std::size_t sum, const std::string &text) { return sum + text.size(); });
        for (const auto &[key, texts] : hashed)
            total += texts.size();
        for (const auto &entry : shared)
            total += entry.second->size();
        return total;
    }
};

template <std::size_t... Index> auto many_tuples(std::index_sequence<Index...>) {
    return std::make_tuple(std::array<int, Index + 1>{}...);
}

template <typename... Part> std::size_t sizes(const std::tuple<Part...> &parts) {
    return std::apply([](const auto &...part) { return (part.size() + ...); }, parts);
}

template <typename Number> std::string sorted(std::size_t count) {
    std::vector<Number> numbers(count);
    std::mt19937 random(42);
    std::generate(numbers.begin(), numbers.end(), [&] { return static_cast<Number>(random() % 1000); });
    std::sort(numbers.begin(), numbers.end());
    std::ostringstream text;
    std::copy_n(numbers.begin(), 5, std::ostream_iterator<Number>(text, " "));
    return text.str();
}

using Value = std::variant<int, double, std::string, std::vector<int>>;

std::string describe(const Value &value) {
    return std::visit(
        [](const auto &held) -> std::string {
            using Held = std::decay_t<decltype(held)>;
            if constexpr (std::is_arithmetic_v<Held>)
                return std::to_string(held);
            else
                return "of size " + std::to_string(held.size());
        },
        value);
}

int main() {
    Tables<int> by_number;
    Tables<std::string> by_name;
    for (int i = 0; i < 1000; i++) {
        by_number.add(i % 37, "text " + std::to_string(i));
        by_name.add("key " + std::to_string(i % 11), std::string(static_cast<std::size_t>(i % 50), 'x'));
    }
    std::cout << Fibonacci<90>::value << '\n' << by_number.size() << ' ' << by_name.size() << '\n';
    std::cout << sizes(many_tuples(std::make_index_sequence<60>{})) << '\n';
    std::cout << sorted<int>(1000) << sorted<double>(1000) << sorted<long long>(1000) << '\n';
    for (const Value &value : {Value(1), Value(2.5), Value("three"), Value(std::vector<int>(4))})
        std::cout << describe(value) << '\n';
    std::regex words("([a-z]+) ([0-9]+)");
    std::smatch found;
    const std::string line = "node 3 and node 12";
    for (auto at = std::sregex_iterator(line.begin(), line.end(), words); at != std::sregex_iterator(); ++at)
        std::cout << at->str(1) << '=' << at->str(2) << '\n';
    std::promise<std::string> promise;
    std::thread thread([&] { promise.set_value("from a thread"); });
    std::cout << promise.get_future().get() << '\n';
    thread.join();
    return 0;
}
