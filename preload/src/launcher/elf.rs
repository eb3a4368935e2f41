//! What a binary's headers say.

use std::fs::File;
use std::path::Path;

use object::Endianness;
use object::elf::{FileHeader32, FileHeader64, Machine, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader};
use object::read::{FileKind, ReadCache, ReadRef};

/// What every ELF file begins with.
pub(crate) const MAGIC: &[u8] = b"\x7fELF";

/// Whether a dynamic linker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It names one, which loads what it needs.
    Dynamic,
    /// It names none.
    Static,
}

/// What is of interest of a binary.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binary {
    pub(crate) kind: Kind,
    /// The processor's number and whether it is used with 64 bits.
    pub(crate) machine: (Machine, bool),
}

/// Reads a file's headers.
pub(crate) fn read(file: &Path) -> Result<Binary, String> {
    let open = File::open(file).map_err(|error| error.to_string())?;
    let cache = ReadCache::new(open);
    let wrong = |error: object::Error| format!("is no program: {error}");
    match FileKind::parse(&cache).map_err(wrong)? {
        FileKind::Elf64 => read_as::<FileHeader64<Endianness>, _>(&cache).map_err(wrong),
        FileKind::Elf32 => read_as::<FileHeader32<Endianness>, _>(&cache).map_err(wrong),
        _ => Err("is no program".to_owned()),
    }
}

fn read_as<'data, H: FileHeader<Endian = Endianness>, R: ReadRef<'data>>(data: R) -> object::Result<Binary> {
    let header = H::parse(data)?;
    let endian = header.endian()?;
    let headers = header.program_headers(endian, data)?;
    let names_linker = headers.iter().any(|entry| entry.p_type(endian) == PT_INTERP);
    Ok(Binary {
        kind: if names_linker { Kind::Dynamic } else { Kind::Static },
        machine: (header.e_machine(endian), header.is_type_64()),
    })
}
