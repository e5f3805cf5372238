"""A scan names what a pickle would call, and calls nothing."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import tarfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hayate.errors import BrokenFile, HayateError, RefusedFormat, UsageError
from hayate.weights.scan import HIDDEN, Verdict, scan


class Call:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call  # type: ignore[return-value]


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
def test_a_checkpoint_is_tensors_only(is_zip: bool, dtype: torch.dtype, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    content = {"state_dict": OrderedDict(w=torch.ones(1000).to(dtype), p=torch.nn.Parameter(torch.ones(2)))}
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    assert scan(path).verdict is Verdict.TENSORS


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (Call(os.system, "touch CANARY"), f"{os.name}.system" if os.name == "nt" else "posix.system"),
        (Call(eval, "open('CANARY', 'w')"), "builtins.eval"),
        (Call(exec, "open('CANARY', 'w')"), "builtins.exec"),
        (Call(getattr, os, "system"), None),
    ],
)
def test_what_would_run_is_named_and_not_run(call: Call, name: str | None, protocol: int, tmp_path: Path) -> None:
    path, canary = tmp_path / "a.ckpt", tmp_path / "canary"
    arguments = tuple(str(each).replace("CANARY", str(canary)) for each in call.call[1])  # type: ignore[union-attr]
    try:
        path.write_bytes(pickle.dumps(Call(call.call[0], *arguments), protocol=protocol))
    except TypeError:
        pytest.skip("not picklable")
    found = scan(path)
    assert found.verdict is Verdict.DANGEROUS
    assert found.calls >= 1
    spelt = {name, name and name.replace("builtins", "__builtin__")}
    assert name is None or spelt & set(found.imports)
    torch.save({"w": torch.ones(2), "x": Call(call.call[0], *arguments)}, tmp_path / "zip.pt")
    assert scan(tmp_path / "zip.pt").verdict is Verdict.DANGEROUS
    assert not canary.exists()


def test_a_name_nobody_knows_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(b"\x80\x02cmodels.unet\nUNet\n)R.")
    found = scan(path)
    assert (found.verdict, found.imports, found.calls) == (Verdict.UNKNOWN, ("models.unet.UNet",), 1)


def assembled(*parts: bytes) -> bytes:
    return b"\x80\x04" + b"".join(parts) + b"\x93)R."


def text(word: str) -> bytes:
    return b"\x8c" + bytes([len(word)]) + word.encode()


@pytest.mark.parametrize(
    "stream",
    [
        assembled(text("os"), text("system"), text("collections"), text("OrderedDict"), b"00"),
        assembled(text("os"), b"\x94", text("system"), b"\x94", b"00", b"h\x00", b"h\x01"),
        assembled(b"U\x02os", b"U\x06system"),
        assembled(text("os"), b"Nq\x05" + text("x") + b"q\x05" + b"0", text("system")),
        assembled(text("os"), text("system"), text("collections"), b"q\x01", text("OrderedDict"), b"q\x02", b"00"),
    ],
    ids=["popped", "from the memo", "byte strings", "written over", "popped after the memo"],
)
def test_names_put_together_are_seen_or_held_against_the_file(stream: bytes, tmp_path: Path) -> None:
    """Each of them is `os.system` to Python's own unpickler, or nothing that can be read."""
    path = tmp_path / "a.pt"
    path.write_bytes(stream)
    found = scan(path)
    assert found.verdict is Verdict.DANGEROUS
    assert {"os.system", HIDDEN} & set(found.imports)


def test_a_second_pickle_in_the_file_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(pickle.dumps(1, protocol=2) + pickle.dumps(Call(os.system, "true"), protocol=2) + b"\x00\x01")
    assert scan(path).verdict is Verdict.DANGEROUS


def test_tar_files_of_old_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        content = pickle.dumps(Call(os.system, "true"), protocol=2)
        info = tarfile.TarInfo("pickle")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    assert scan(path).verdict is Verdict.DANGEROUS


def test_what_is_no_pickle_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    with pytest.raises(RefusedFormat, match="no pickled file"):
        scan(tmp_path / "a.safetensors")
    with pytest.raises(UsageError, match="there is no file"):
        scan(tmp_path / "none.pt")
    (tmp_path / "a.pt").write_bytes(b"PK\x03\x04" + b"\0" * 50)
    with pytest.raises(BrokenFile):
        scan(tmp_path / "a.pt")


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.text() | st.integers() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
    st.integers(3, 5),
)
def test_plain_data_imports_nothing(tmp_path_factory: pytest.TempPathFactory, data: object, protocol: int) -> None:
    path = tmp_path_factory.getbasetemp() / "plain.pt"
    path.write_bytes(pickletools.optimize(pickle.dumps(data, protocol=protocol)))
    found = scan(path)
    assert (found.verdict, found.imports) == (Verdict.TENSORS, ())


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_verdict_or_a_clean_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.pt"
    path.write_bytes(b"\x80\x04" + content)
    said = ""
    try:
        scan(path)
    except HayateError as error:
        said = str(error)
    assert "\n" not in said
