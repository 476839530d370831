"""Pickles that attack their reader: each is refused with a typed error, and nothing of it has been run."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hoirt
import numpy as np
import pytest
from hoirt import InputError
from hoirt.safe_pickle import loads


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, state: Any = None) -> None:
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.parts


def raw(module: str, name: str, arguments: bytes = b")", end: bytes = b"R.") -> bytes:
    return b"\x80\x02c" + module.encode() + b"\n" + name.encode() + b"\n" + arguments + end


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A file whose existence means that an attack has run."""
    path = tmp_path / "ran"
    yield path
    assert not path.exists(), "the attack was run"


CALLS: dict[str, Callable[[str], Call]] = {
    "os.system": lambda p: Call(os.system, f"touch {p}"),
    "os.mkdir": lambda p: Call(os.mkdir, p),
    "subprocess": lambda p: Call(subprocess.call, ["touch", p]),
    "eval": lambda p: Call(eval, f"open({p!r}, 'w')"),
    "exec": lambda p: Call(exec, f"open({p!r}, 'w')"),
    "open": lambda p: Call(open, p, "w"),
    "io.open": lambda p: Call(io.open, p, "w"),
    "getattr": lambda p: Call(getattr, Call(__import__, "os"), "system"),
    "import": lambda p: Call(__import__, "antigravity"),
    "breakpoint": lambda p: Call(breakpoint),
    "pickle.loads": lambda p: Call(pickle.loads, pickle.dumps(Call(os.system, f"touch {p}"))),
    "numpy.save": lambda p: Call(np.save, p, 1),
    "numpy.savetxt": lambda p: Call(np.savetxt, p, [1]),
    "numpy.load": lambda p: Call(np.load, p, None, True),
    "numpy.fromfile": lambda p: Call(np.fromfile, "/etc/hostname"),
    "numpy.memmap": lambda p: Call(np.memmap, p, "uint8", "w+", 0, (4,)),
    "numpy.ndarray": lambda p: Call(np.ndarray, (1 << 40,)),
    "numpy.zeros": lambda p: Call(np.zeros, 1 << 45),
    "bytearray": lambda p: Call(bytearray, 1 << 45),
    "range": lambda p: Call(list, range(1 << 45)),
    "set state": lambda p: Call(dict, state={"__class__": 1}),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("attack", CALLS)
def test_calls_are_refused(attack: str, protocol: int, trap: Path) -> None:
    data = pickle.dumps({"v_template": CALLS[attack](str(trap))}, protocol)
    with pytest.raises(
        InputError, match=r"at byte \d+: .*(not plain data|calls|sets the state|made of|begins)"
    ):
        loads(data)


@pytest.mark.parametrize("attack", ["os.system", "eval", "numpy.save"])
def test_public_readers_refuse(attack: str, trap: Path, tmp_path: Path) -> None:
    attack_object = CALLS[attack](str(trap))
    (tmp_path / "MANO_RIGHT.pkl").write_bytes(pickle.dumps(attack_object))
    (tmp_path / "anno.pkl").write_bytes(pickle.dumps({"raw_mano": attack_object}))
    np.save(tmp_path / "motion.npy", np.array(attack_object, object), allow_pickle=True)
    np.savez(tmp_path / "labels_000000.npz", pose_m=np.array([attack_object], object), pose_y=np.zeros(3))
    with pytest.raises(InputError, match="nothing was run"):
        hoirt.load_mano(tmp_path / "MANO_RIGHT.pkl")
    for name in ("anno.pkl", "motion.npy"):
        with pytest.raises(InputError, match="nothing was run"):
            hoirt.load_motion(tmp_path / name)
    folder = tmp_path / "sequence" / "camera"
    folder.mkdir(parents=True)
    (folder.parent / "meta.yml").write_text("mano_sides: [right]\nycb_ids: [1]\nmano_calib: [a]\n")
    (tmp_path / "labels_000000.npz").rename(folder / "labels_000000.npz")
    with pytest.raises(InputError, match="Python objects"):
        hoirt.load_motion(folder)


@pytest.mark.parametrize(
    "data",
    [
        raw("os", "system", b"(Vtouch x\nt"),
        raw("posix", "system", b"(Vtouch x\nt"),
        raw("builtins", "getattr", b"(N t"),
        raw("numpy", "ndarray.__reduce__"),
        raw("numpy", "core.multiarray._reconstruct"),
        raw("numpy.core.multiarray", "_reconstruct.__globals__"),
        raw("numpy.core.multiarray", "fromfile"),
        raw("numpy.testing._private.utils", "runstring"),
        raw("numpy.f2py.crackfortran", "myeval"),
        raw("scipy.sparse", "load_npz"),
        raw("torch", "load"),
        raw("torch", "FloatStorage", b"(J\xff\xff\xff\x7ft"),
        raw("torch.storage", "_load_from_bytes", b"(U\x02N.t"),
        raw("torch._utils", "_rebuild_tensor_v2", b"(K\x01K\x01K\x01K\x01t"),
        raw("chumpy.ch", "__builtins__"),
        raw("__main__", "anything"),
        raw("", ""),
        b"(S'touch x'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch x'\no.",  # OBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.",  # STACK_GLOBAL
        b"\x80\x04\x8c\x02os.\x8c\x06system\x93.",
        b"\x80\x04N\x8c\x06system\x93.",
        b"\x80\x02\x82\x01.",  # extension codes
        b"\x80\x02\x83\x01\x00.",
        b"\x80\x02\x84\x01\x00\x00\x00.",
        b"\x80\x05\x97.",  # out-of-band buffers
        b"\x80\x05C\x01x\x98.",
        b"Pfile:///etc/passwd\n.",  # persistent ids
        b"\x80\x02U\x01xQ.",
        b"\x80\xff.",
        b"\x80\x02cnumpy\ndtype\n.",  # a name as data
        b"\x80\x02]cnumpy\ndtype\na.",
        b"\x80\x02cnumpy\ndtype\n\x85.",
        b"\x80\x02cnumpy\ndtype\n}U\x01x}s\x86b.",  # BUILD on a name would write into the class
        b"\x80\x02cchumpy.ch\nCh\nN}U\x0c__setstate__cnumpy\ndtype\ns\x86b.",
        b"\x80\x02cchumpy.ch\nCh\n)\x81}U\x01xK\x01sb}U\x01xK\x02sb.",  # a second state
        b"\x80\x02]}b.",
        b"\x80\x02K\x01)R.",
        b"\x80\x02cchumpy.ch\nCh\nK\x01R.",  # arguments that are no tuple
        b"\x80\x04cchumpy.ch\nCh\n)}U\x01xK\x01s\x92.",  # keywords
    ],
)
def test_instructions_are_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        loads(data)


def test_set_state_of_arrays_and_dtypes_is_checked() -> None:
    begin = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    dtype = b"cnumpy\ndtype\n(U\x02f8K\x00K\x01tR"
    good = b"\x80\x02" + begin + b"(K\x01(K\x01t" + dtype + b"\x89U\x08" + bytes(8) + b"tb."
    np.testing.assert_array_equal(loads(good), [0.0])
    for old, new in (
        (b"U\x08" + bytes(8), b"U\x07" + bytes(7)),  # too few bytes
        (b"(K\x01t" + dtype, b"(J\xff\xff\xff\xfft" + dtype),  # a negative extent
        (b"(K\x01t" + dtype, b"(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft" + dtype),  # 2**62 values
        (b"(K\x01t" + dtype, b"(" + b"K\x01" * 100 + b"t" + dtype),
        (b"U\x02f8", b"U\x02O8"),  # bytes as pointers
        (b"U\x02f8", b"U\x04V999"),
        (b"U\x02f8", b"U\x05i4,f4"),
        (b"U\x02f8", b"U\x06S99999"),
        (b"U\x08" + bytes(8), b"]N" + b"a"),
        (dtype, b"K\x05"),
        (dtype, dtype + b"(K\x03U\x01<U\x01xNNK\x00K\x00K\x00tb"),  # a sub-array
        (dtype, dtype + b"(K\x03U\x01?NNNK\x00K\x00K\x00tb"),
        (b"U\x01b", b"U\x01O"),
        (b"(cnumpy\nndarray\n", b"(cnumpy\ndtype\n"),
    ):
        assert old in good
        data = good.replace(old, new, 1)
        if new == b"U\x01O":  # only ever the start of an array that its state replaces
            loads(data)
            continue
        with pytest.raises(InputError):
            loads(data)


def test_arrays_of_objects_do_not_nest() -> None:
    """Freeing a chain of arrays of arrays recurses in C, without a limit."""
    chain: Any = np.array([None], object)
    for _ in range(5):
        holder = np.empty(1, object)
        holder[0] = chain
        chain = holder
    with pytest.raises(InputError, match="array of objects holds another"):
        loads(pickle.dumps(chain))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x80\x02]" + b"]" * 200_000 + b"a" * 200_000 + b".", "nested more than"),
        (b"\x80\x02)" + b"\x85" * 200_000 + b".", "nested more than"),
        (b"(" * 500_000 + b".", "stack is empty"),
        (b"\x80\x02]q\x00h\x00a.", "contains itself"),
        (b"\x80\x02}q\x00U\x01ah\x00s.", "contains itself"),
        (b"\x80\x02N" + b"2" * 3_000_000 + b".", "instructions"),
        (b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"Ns.", "is a key"),  # hashing would overflow the stack
        (b"\x80\x02}\x8a\x0a" + b"\xff" * 9 + b"\x00Ns.", "below 2\\*\\*60"),
        (b"B\xff\xff\xff\xff.", "truncated"),
        (b"T\xff\xff\xff\x7f.", "truncated"),
        (b"T\xff\xff\xff\xff.", "length of -1"),
        (b"\x8e" + b"\xff" * 8 + b".", "truncated"),
        (b"\x8e" + struct.pack("<Q", 1 << 40) + b".", "truncated"),
        (b"\x8b\xff\xff\xff\x7f.", "integer of 2147483647 bytes"),
        (b"I" + b"9" * 5000 + b"\n.", "digits"),
        (b"L" + b"9" * 5000 + b"L\n.", "digits"),
        (
            b"N\x72\xff\xff\xff\xff.",
            None,
        ),  # LONG_BINPUT with a huge index makes the C unpickler allocate 64 GB
        (b"j\xff\xff\xff\xff.", "never written"),
        (b"g-1\n.", "never written"),
        (b"Np-1\n.", "negative"),
        (b"F1e999x\n.", "not a number"),
        (b"S'\\x'\n.", "escape"),
        (b"Sabc\n.", "quotes"),
        (b"X\x01\x00\x00\x00\xff.", "utf-8"),
        (b"}(Nu.", "key without a value"),
        (b"NN.", "more than one value"),
        (b"t.", "no mark"),
        (b"", "truncated"),
    ],
)
def test_bombs_and_nonsense(data: bytes, message: str | None) -> None:
    if message is None:
        assert loads(data) is None
    else:
        with pytest.raises(InputError, match=message):
            loads(data)


def test_shared_parts_do_not_explode() -> None:
    """A list of ten times the list below it, thirty times over: 10**30 paths, thirty lists."""
    value = loads(_layers(30))
    assert len(value) == 10


@pytest.mark.parametrize(
    "again",
    [
        b"c_codecs\nencode\n(h\x00U\x06latin1tR0",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
        b"(K\x01(J\x00\x00\x10\x00tcnumpy\ndtype\n(U\x02i1tR\x89h\x00tb0",
    ],
)
def test_repeated_parts_are_not_built_without_end(again: bytes) -> None:
    """A megabyte in the memo, made into new bytes or arrays ten thousand times."""
    part = b"T" + struct.pack("<i", 1 << 20) + bytes(1 << 20) + b"q\x000"
    assert loads(b"\x80\x02" + part + again + b"N.") is None
    with pytest.raises(InputError, match="parts that it repeats"):
        loads(b"\x80\x02" + part + again * 10_000 + b"N.")
    items = b"](" + b"N" * 1000 + b"eq\x000"
    members = b"c__builtin__\nset\n(h\x00tR0"
    with pytest.raises(InputError, match="parts that it repeats"):
        loads(b"\x80\x02" + items + members * 10_000 + b"N.")


def _layers(count: int) -> bytes:
    data = b"\x80\x02]"
    for k in range(count):
        data += b"q" + bytes([k]) + b"0](" + (b"h" + bytes([k])) * 10 + b"e"
    return data + b"."


def test_reading_imports_nothing() -> None:
    """Not even the modules of the table: they are names."""
    code = (
        "import sys; from hoirt.safe_pickle import loads\n"
        "loads(b'\\x80\\x02cscipy.sparse.csc\\ncsc_matrix\\n)\\x81.')\n"
        "loads(b'\\x80\\x02cchumpy.ch\\nCh\\n)\\x81.')\n"
        "assert not {'scipy', 'chumpy', 'torch', 'pickle'} & set(sys.modules) - before, sys.modules\n"
    )
    code = "import sys, numpy; before = set(sys.modules)\n" + code
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_builtin_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def caught(*_: Any) -> None:
        raise AssertionError("the file's code was run")

    for name in ("eval", "exec", "__import__"):
        data = raw("builtins", name, b"(S'1'\nt")
        with monkeypatch.context() as patch:
            if name != "__import__":
                patch.setattr(builtins, name, caught)
            with pytest.raises(InputError, match="not plain data"):
                loads(data)
