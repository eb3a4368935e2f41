//! The ways in which the shared object comes into a process, and what it meets there: other allocators, a second copy
//! of itself, libraries that were bound to another malloc.

mod support;

use std::path::{Path, PathBuf};

use object::Endianness;
use object::read::elf::{ElfFile64, ProgramHeader};
use support::{Outcome, command, compiled, copied, library, preloaded, run, scratch};

const LIBRARY: [&str; 2] = ["-shared", "-fPIC"];

fn program() -> PathBuf {
    compiled("loading.c", &[])
}

/// Options that link a program or a library with the shared object.
fn linked() -> Vec<String> {
    let folder = library().parent().expect("it lies in a folder").display().to_string();
    let rpath = format!("-Wl,-rpath,{folder}");
    [format!("-L{folder}"), "-Wl,--no-as-needed".to_owned(), "-lhoming_preload".to_owned(), rpath].into()
}

/// A program or library made of `c/<source>` and linked with the shared object.
fn compiled_and_linked(source: &str, options: &[&str]) -> PathBuf {
    let linked = linked();
    compiled(source, &linked.iter().map(String::as_str).chain(options.iter().copied()).collect::<Vec<_>>())
}

/// The C library, as the dynamic linker finds it.
fn c_library() -> PathBuf {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux has a /proc/self/maps");
    let file = maps.split_whitespace().find(|word| word.ends_with("/libc.so.6"));
    file.expect("this process has loaded the C library").into()
}

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().display().to_string()
}

/// A second copy of the shared object, under another name.
fn second_copy(test: &str) -> PathBuf {
    copied(library(), scratch(test).join("libanother.so"))
}

#[track_caller]
fn aborted_with_one_line(outcome: &Outcome) {
    assert_eq!(outcome.signal, Some(libc::SIGABRT), "{outcome:?}");
    let pointer = format!("{:#x}:", outcome.number("pointer"));
    let line = outcome.only_line();
    assert!(line.starts_with("homing: ") && line.contains(&pointer), "{pointer} {outcome:?}");
    assert!(line.contains("was not allocated here"), "{outcome:?}");
}

#[test]
fn preloaded_it_serves_the_whole_program() {
    run(preloaded(program()).arg("serves-all").arg(library())).silent();
}

#[test]
fn linked_with_it_serves_the_whole_program() {
    let mut command = command(compiled_and_linked("loading.c", &[]));
    // Cargo's folders, where a copy of another build may lie.
    run(command.env_remove("LD_LIBRARY_PATH").arg("serves-all").arg(library())).silent();
}

#[test]
fn loaded_late_it_leaves_the_programs_blocks_and_threads_alone() {
    for how in ["local", "global", "deepbind"] {
        run(command(program()).arg("late").arg(library()).arg(how)).silent();
    }
}

#[test]
fn loaded_late_it_says_so_when_it_is_handed_a_block_of_the_c_library() {
    for (how, function) in ["local", "deepbind"]
        .into_iter()
        .flat_map(|how| ["free", "realloc", "malloc_usable_size"].map(|what| (how, what)))
    {
        let outcome = run(command(program()).arg("hand-over").arg(library()).args([how, function]));
        aborted_with_one_line(&outcome);
        assert!(outcome.only_line().starts_with(&format!("homing: {function} of ")), "{outcome:?}");
    }
}

#[test]
fn a_library_is_served_by_the_preloaded_one_however_it_is_opened() {
    let plugin = compiled("plugin.c", &LIBRARY);
    for how in ["local", "global", "deepbind"] {
        run(preloaded(program()).arg("plugin").args([&text(&plugin), how]).arg(library())).silent();
    }
}

/// Whose block it is makes no difference any more, whichever of the two frees it.
#[test]
fn blocks_of_the_program_the_c_library_and_a_deeply_bound_library_are_anyones_to_free() {
    let plugin = text(compiled("plugin.c", &LIBRARY));
    for what in [
        "program-frees-the-plugins",
        "program-frees-the-librarys",
        "plugin-frees-the-librarys",
        "plugin-frees-the-programs",
    ] {
        run(preloaded(program()).arg("mix").args([&plugin, what])).succeeded();
    }
}

/// The C library goes by who calls: a library's own path to others, and the namespace that it is in.
#[test]
fn a_library_that_opens_another_finds_it_by_its_own_path() {
    let folder = scratch("origin");
    let below = folder.join("below");
    std::fs::create_dir_all(&below).expect("folders can be made");
    copied(compiled("plugin.c", &LIBRARY), below.join("libbelow.so"));
    let opener = compiled("opener.c", &[&LIBRARY[..], &["-Wl,--enable-new-dtags,-rpath,$ORIGIN/below"]].concat());
    let opener = text(copied(opener, folder.join("libopener.so")));
    for command in [&mut command(program()), &mut preloaded(program())] {
        run(command.arg("test-itself").args([&opener, "local"])).silent();
    }
}

#[test]
fn a_library_that_brings_it_along_is_served_by_it_where_it_is_bound_to_it() {
    let plugin = compiled_and_linked("plugin.c", &LIBRARY);
    let mut own = command(program());
    run(own.env_remove("LD_LIBRARY_PATH").arg("plugin").args([&text(&plugin), "deepbind"]).arg(library())).silent();
    let mut common = command(program());
    run(common.env_remove("LD_LIBRARY_PATH").arg("plugin").args([&text(&plugin), "local"]).arg(c_library())).silent();
}

#[test]
fn a_text_of_the_c_library_is_reported_when_a_library_that_is_bound_to_another_malloc_frees_it() {
    let plugin = compiled_and_linked("plugin.c", &LIBRARY);
    let mut command = command(program());
    let outcome =
        run(command.env_remove("LD_LIBRARY_PATH").arg("mix").args([&text(plugin), "plugin-frees-the-librarys"]));
    aborted_with_one_line(&outcome);
}

#[test]
fn of_two_copies_preloaded_the_first_serves_all() {
    let second = second_copy("preloaded-twice");
    for (first, other) in [(library(), second.clone()), (second, library())] {
        let both = format!("{}:{}", first.display(), other.display());
        run(preloaded(program()).env("LD_PRELOAD", both).arg("serves-all").arg(first)).silent();
    }
}

#[test]
fn a_second_copy_loaded_late_has_its_own_blocks_and_knows_them_from_the_firsts() {
    let second = second_copy("loaded-twice");
    for how in ["local", "deepbind"] {
        run(preloaded(program()).arg("late").arg(&second).arg(how)).silent();
        for function in ["free", "realloc", "malloc_usable_size"] {
            aborted_with_one_line(&run(preloaded(program()).arg("hand-over").arg(&second).args([how, function])));
        }
    }
}

#[test]
fn a_copy_in_a_namespace_of_its_own_serves_those_who_call_it() {
    run(command(program()).arg("namespace").arg(library())).silent();
    run(preloaded(program()).arg("namespace").arg(library())).silent();
}

#[test]
fn a_program_with_its_own_malloc_is_left_to_it() {
    let program = compiled("own_program.c", &[]);
    run(&mut command(&program)).silent();
    let outcome = run(&mut preloaded(&program)).silent();
    assert_eq!(outcome.number("theirs"), 0, "{outcome:?}");
}

#[test]
fn a_library_with_a_hidden_malloc_of_its_own_is_left_to_it() {
    let plugin = text(compiled("plugin.c", &[&LIBRARY[..], &["-DOWN_C_NAMES"]].concat()));
    for how in ["local", "deepbind"] {
        run(preloaded(program()).arg("plugin").args([&plugin, how, &plugin])).silent();
    }
}

#[test]
fn a_program_that_replaces_two_operators_gets_every_form_from_them() {
    let program = compiled("own_operators.cpp", &["-std=c++17", "-Wno-sized-deallocation"]);
    run(&mut command(&program)).silent();
    run(&mut preloaded(&program)).silent();
}

#[test]
fn operator_new_calls_the_handler_and_throws_where_the_cpp_runtime_is_loaded_after_it() {
    let plugin = text(compiled("late_operators.cpp", &[&LIBRARY[..], &["-std=c++17"]].concat()));
    for how in ["local", "global"] {
        run(command(program()).arg("test-itself").args([&plugin, how])).silent();
        run(preloaded(program()).arg("test-itself").args([&plugin, how])).silent();
    }
}

/// Libraries of that name with so much thread-local storage each, numbered from 0 on.
fn libraries_with_storage(folder: &Path, name: &str, size: u64) {
    let library = compiled("static_tls.c", &[&LIBRARY[..], &[&format!("-DSIZE={size}")]].concat());
    (0..64).for_each(|number| drop(copied(&library, folder.join(format!("{name}-{number}.so")))));
}

/// Bytes of thread-local storage that the object has.
fn storage_of(object: &Path) -> u64 {
    let bytes = std::fs::read(object).expect("the object can be read");
    let file = ElfFile64::<Endianness>::parse(&*bytes).expect("it is an ELF file");
    let mut headers = file.elf_program_headers().iter();
    let storage = headers.find(|header| header.p_type(file.endian()) == object::elf::PT_TLS);
    storage.map_or(0, |header| header.p_memsz(file.endian()))
}

#[test]
fn libraries_that_use_up_the_storage_for_threads_keep_neither_it_out_nor_it_them() {
    const SMALL: u64 = 16;
    let folder = scratch("static-storage");
    libraries_with_storage(&folder, "large", 256);
    libraries_with_storage(&folder, "small", SMALL);
    let without = run(command(program()).arg("count-large").arg(&folder)).silent();
    let with = run(preloaded(program()).arg("count-large").arg(&folder)).silent();
    assert_eq!(with.number("loaded"), without.number("loaded"), "preloaded, it takes nothing of what others share");
    // Its own word, and two of the standard library's; more of those where nothing is optimised.
    let storage = storage_of(&library());
    assert!(storage <= if cfg!(debug_assertions) { 128 } else { 24 }, "{storage} bytes");
    // With hardly more room than that, it is loaded.
    let room = (storage.div_ceil(SMALL) + 1).to_string();
    run(command(program()).arg("little-storage").arg(&folder).arg(library()).arg(room)).silent();
}
