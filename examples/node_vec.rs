//! A vector on each of the machine's nodes, and where its pages lie by the kernel's word.
//!
//! Run by `cargo run --release --example node_vec --features allocator-api2`.

use homing::allocator_api2::vec::Vec;
use homing::{NodeAlloc, Topology, current_node, resident_node};

fn main() -> Result<(), homing::NodeError> {
    println!("this thread runs on node {}", current_node()?.number());
    for node in Topology::read().nodes().iter().map(homing::Node::id) {
        let allocator = match NodeAlloc::new(node) {
            Ok(allocator) => allocator,
            Err(error) => {
                println!("node {}: {error}", node.number());
                continue;
            }
        };
        let mut numbers = Vec::new_in(allocator);
        numbers.extend(0..1_000_000_u64);
        let pages = numbers.chunks(512).filter_map(|page| resident_node(page.as_ptr().cast()).ok().flatten());
        let (at_home, all) = pages.fold((0, 0), |(at_home, all), lies| (at_home + usize::from(lies == node), all + 1));
        let sum: u64 = numbers.iter().sum();
        println!("node {}: 1,000,000 numbers with the sum {sum}; {at_home} of {all} pages lie there", node.number());
    }
    Ok(())
}
