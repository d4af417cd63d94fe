"""Object code into memory: a loader for what Numba compiles, in place of a linker.

Numba's code generator makes relocatable ELF objects for x86-64 in the large code model, which leaves
two sorts of places to fill in: an address, and a distance, 64 bits each. Anything else, and any name
that leads nowhere, is refused.

Sources: the ELF-64 object file format; System V ABI, AMD64 supplement §4.4 (relocation types).
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_IDENT = b"\x7fELF\x02\x01\x01"
_RELOCATABLE, _X86_64 = 1, 62
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QQq")
_SYMTAB, _RELOCATIONS, _NO_BITS, _UNWIND = 2, 4, 8, 0x70000001
_WRITE, _ALLOC = 1, 2
_UNDEFINED, _ABSOLUTE, _COMMON = 0, 0xFFF1, 0xFFF2
_ADDRESS, _DISTANCE = 1, 24


_loaded: list[ctypes.c_char] = []
"""What is loaded; a thread may run it even when the interpreter has shut down, so nothing is unmapped."""


class _Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry: int

    @property
    def loaded(self) -> bool:
        return bool(self.flags & _ALLOC) and self.kind != _UNWIND


def load(code: bytes, symbol: str, resolve: Callable[[str], int]) -> int:
    """Put an object into memory for the rest of the process; return the address of one of its functions.

    `resolve` gives the address of a name that the object lacks, 0 for none. Raises OSError.
    """
    if code[:7] != _IDENT or struct.unpack_from("<HH", code, 16) != (_RELOCATABLE, _X86_64):
        raise OSError("not an x86-64 object")
    (table,) = struct.unpack_from("<Q", code, 40)
    (count,) = struct.unpack_from("<H", code, 60)
    sections = [_Section(*_SECTION.unpack_from(code, table + i * _SECTION.size)) for i in range(count)]
    symtab = next(section for section in sections if section.kind == _SYMTAB)
    symbols = list(_SYMBOL.iter_unpack(code[symtab.offset : symtab.offset + symtab.size]))

    places, fixed, end = _lay_out(sections, symbols)
    memory = mmap.mmap(-1, end, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE)
    whole = ctypes.c_char.from_buffer(memory)
    _loaded.append(whole)
    base = ctypes.addressof(whole)
    for i, section in enumerate(sections):
        if i in places and section.kind != _NO_BITS:
            content = code[section.offset : section.offset + section.size]
            memory[places[i] : places[i] + len(content)] = content
    values, entry = _addresses(code, sections[symtab.link].offset, symbols, places, base, symbol, resolve)
    for section in sections:
        if section.kind == _RELOCATIONS and section.info in places:
            relocations = _RELA.iter_unpack(code[section.offset : section.offset + section.size])
            _relocate(memory, places[section.info], base, relocations, values)
    library = ctypes.CDLL(None, use_errno=True)
    if library.mprotect(ctypes.c_void_p(base), ctypes.c_size_t(fixed), mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "compiled code may not be run here")
    return entry


def _lay_out(sections: list[_Section], symbols: list[tuple[int, ...]]) -> tuple[dict[int, int], int, int]:
    """Give each loaded section its place, those that are written behind a page's end.

    Returns (places by number, bytes that are not written, bytes in all). What is common to several
    objects, and has no section, stands under `_COMMON`, each symbol on a multiple of 64 bytes.
    """
    places: dict[int, int] = {}
    at = 0
    for written in (False, True):
        for i, section in enumerate(sections):
            if section.loaded and bool(section.flags & _WRITE) is written:
                at = _rounded(at, max(1, section.align))
                places[i] = at
                at += section.size
        at = _rounded(at, mmap.PAGESIZE)
        if not written:
            fixed = at
    places[_COMMON] = at
    at += sum(_rounded(size, 64) for *_, index, _, size in symbols if index == _COMMON)
    return places, fixed, _rounded(at, mmap.PAGESIZE) + mmap.PAGESIZE


def _rounded(number: int, unit: int) -> int:
    return (number + unit - 1) // unit * unit


def _addresses(
    code: bytes,
    names: int,
    symbols: list[tuple[int, ...]],
    places: dict[int, int],
    base: int,
    wanted: str,
    resolve: Callable[[str], int],
) -> tuple[list[int], int]:
    """Return the address of each symbol (0 of what is not loaded), and that of the wanted function."""
    values: list[int] = []
    entry = 0
    common = base + places[_COMMON]
    for at, _, _, index, value, size in symbols:
        if index == _COMMON:
            values.append(common)
            common += _rounded(size, 64)
        elif index == _ABSOLUTE:
            values.append(value)
        elif index != _UNDEFINED:
            values.append(base + places[index] + value if index in places else 0)
            if not entry and code[names + at : code.index(b"\0", names + at)] == wanted.encode():
                entry = values[-1]
        else:
            name = code[names + at : code.index(b"\0", names + at)].decode()
            address = resolve(name) if name else 0
            if name and not address:
                raise OSError(f"compiled code needs '{name}', which nothing here offers")
            values.append(address)
    if not entry:
        raise OSError(f"compiled code has no function '{wanted}'")
    return values, entry


def _relocate(
    memory: mmap.mmap, start: int, base: int, relocations: Iterable[tuple[int, int, int]], values: list[int]
) -> None:
    """Fill in the addresses and distances that a section leaves open."""
    for offset, info, addend in relocations:
        kind, value = info & 0xFFFFFFFF, values[info >> 32]
        if kind not in (_ADDRESS, _DISTANCE) or not value:
            raise OSError(f"compiled code has a relocation of type {kind}, which is not known here")
        target = value + addend - (base + start + offset if kind == _DISTANCE else 0)
        struct.pack_into("<Q", memory, start + offset, target & 0xFFFFFFFFFFFFFFFF)
