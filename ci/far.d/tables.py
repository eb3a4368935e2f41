"""Reads the lines of the instrument's runs, and writes tables of medians as Markdown. Arguments: the workloads.

A line is "WORKLOAD far  ALLOCATOR  insns=1.5M misses=2.5k far=0.5k ...". Fails where homing is not lowest, or where a
workload is missing.
"""
import re
import statistics
import sys

LINE = re.compile(r"^(\w+) far +(\w+) +insns=([\d.]+)M misses=([\d.]+)k far=([\d.]+)k .*exit=0")


def main():
    workloads = sys.argv[1:]
    found = {}
    for line in sys.stdin:
        match = LINE.match(line)
        if match:
            workload, allocator, *figures = match.groups()
            found.setdefault((workload, allocator), []).append([float(figure) for figure in figures])
    allocators = list(dict.fromkeys(allocator for _, allocator in found))
    others = [allocator for allocator in allocators if allocator != "homing"]
    lowest_everywhere = True
    for column, title, digits in [(2, "far misses, thousands", 1), (1, "all misses, thousands", 0), (0, "user instructions, millions", 1)]:
        print(f"| {title} | " + " | ".join(allocators) + " |")
        print("|---|" + "---|" * len(allocators))
        for workload in workloads:
            medians = {}
            for allocator in allocators:
                runs = found.get((workload, allocator))
                if not runs:
                    sys.exit(f"ci/far: {workload} did not end well under {allocator}")
                medians[allocator] = statistics.median(run[column] for run in runs)
            print(f"| {workload} | " + " | ".join(f"{medians[allocator]:.{digits}f}" for allocator in allocators) + " |")
            if column != 1 and medians["homing"] > min(medians[allocator] for allocator in others):
                lowest_everywhere = False
                print(f"homing is not lowest: {workload}, {title}", file=sys.stderr)
        print()
    print("homing is lowest in far misses and instructions everywhere" if lowest_everywhere else "homing is not lowest everywhere", file=sys.stderr)
    sys.exit(not lowest_everywhere)


main()
