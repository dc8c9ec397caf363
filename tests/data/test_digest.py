import hashlib
import os
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import numpy as np
import pytest
import scipy.sparse as sp
from image_files import colours, encoded, in_folder
from pydantic import TypeAdapter, ValidationError

from shine_exp.data import digest as module
from shine_exp.data.dataset import Dataset
from shine_exp.data.digest import InputFile, digest_of, digest_of_arrays, names_input_file, stamp_of
from shine_exp.data.image_folder import image_folder
from shine_exp.data.libsvm import libsvm
from shine_exp.errors import DataError
from shine_exp.problems.logistic import LogisticRegression
from shine_exp.problems.nonlinear_least_squares import NonlinearLeastSquares

Y = np.array([-1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("annotation", "marked"),
    [
        (InputFile, True),
        (int | InputFile, True),
        (InputFile | None, True),
        (Annotated[InputFile | int, "more"], True),
        (str, False),
        (int | str | None, False),
        (Annotated[str, "other"], False),
        (Any, False),
    ],
)
def test_input_file_is_found_in_annotation(annotation: Any, marked: bool) -> None:
    assert names_input_file(annotation) is marked


def test_input_file_is_a_string_to_pydantic() -> None:
    assert TypeAdapter(int | InputFile).validate_python("groups.txt", strict=True) == "groups.txt"
    with pytest.raises(ValidationError):
        TypeAdapter(InputFile).validate_python(3, strict=True)


def test_parameters_that_name_input_files() -> None:
    functions = (libsvm, image_folder, LogisticRegression.__init__, NonlinearLeastSquares.__init__)
    hints = [get_type_hints(function, include_extras=True) for function in functions]
    assert [sorted(name for name in of if names_input_file(of[name])) for of in hints] == [
        ["path"],
        ["path"],
        ["groups"],
        ["groups"],
    ]


def test_digest_of_file_is_sha256_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    for content in (b"", b"1 1:1\n", b"2 1:1\n"):
        path.write_bytes(content)
        assert digest_of(path) == digest_of(str(path)) == hashlib.sha256(content).hexdigest()


def test_digest_of_dataset_depends_on_content_alone() -> None:
    x = np.array([[1.0, 0, 0, 2], [0, 3, 0, 0], [0, 0, 0, 4]])
    same = Dataset(x, Y, "a", "none").digest
    assert Dataset(np.asfortranarray(x).astype(">f8"), Y.astype(np.float32), "b", "none").digest == same
    sparse = sp.csr_matrix(x)
    wide = sp.csr_matrix(x)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    assert Dataset(wide, Y, "b", "none").digest == Dataset(sparse, Y, "a", "none").digest
    swapped = sp.csr_matrix((np.array([2.0, 1, 3, 4]), np.array([3, 0, 1, 3]), np.array([0, 2, 3, 4])), shape=(3, 4))
    assert Dataset(swapped, Y, "a", "none").digest == Dataset(sparse, Y, "a", "none").digest
    others = [
        Dataset(x, Y, "a", "variance"),
        Dataset(x, -Y, "a", "none"),
        Dataset(x + np.eye(3, 4) * 1e-15, Y, "a", "none"),
        Dataset(x[:, ::-1], Y, "a", "none"),
        Dataset(sparse, Y, "a", "none"),
        Dataset(sp.csr_matrix(sparse, shape=(3, 4)).reshape(3, 4)[:, [1, 0, 2, 3]], Y, "a", "none"),
        Dataset(sp.csr_matrix((sparse.data, sparse.indices, sparse.indptr), shape=(3, 5)), Y, "a", "none"),
    ]
    assert len({same, *(other.digest for other in others)}) == 1 + len(others)


def test_digest_of_arrays_tells_shapes_apart() -> None:
    a = np.arange(6.0)
    assert len({digest_of_arrays(part) for part in (a, a.reshape(2, 3), a.reshape(3, 2))}) == 3
    assert digest_of_arrays(a, a) != digest_of_arrays(np.concatenate([a, a]))


def test_digest_of_folder_follows_names_and_contents(tmp_path: Path) -> None:
    folder = in_folder(tmp_path / "mine")
    first = digest_of(folder)
    assert digest_of(in_folder(tmp_path / "copy")) == first, "wherever it lies"
    in_folder(folder, {"README": b"", "train/ant/.DS_Store": b""})
    assert digest_of(folder) == first, "what is not read does not count"
    (folder / "train/ant/9.png").rename(folder / "train/ant/0.png")
    renamed = digest_of(folder)
    in_folder(folder, {"train/ant/0.png": encoded(colours(99))})
    assert len({first, renamed, digest_of(folder)}) == 3


@pytest.mark.parametrize("kind", ["absent", "pipe", "nul\0", "x" * 300, "loop"])
def test_digest_of_what_cannot_be_read_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "pipe":
        os.mkfifo(path)
    if kind == "loop":
        path.symlink_to(path)
    with pytest.raises(DataError) as caught:
        digest_of(path)
    assert "\n" not in str(caught.value)


def test_large_file_is_read_once_in_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALL", 0)
    path = tmp_path / "large"
    path.write_bytes(b"content")
    first = digest_of(path)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_file_sum", lambda _: pytest.fail("read again"))
        assert digest_of(path) == first
    os.utime(path, (1, 1))
    stamp = stamp_of(path)
    assert digest_of(path) == first, "touched, but equal"
    assert stamp.mtime_ns == 10**9
    path.write_bytes(b"another content")
    assert digest_of(path) == hashlib.sha256(b"another content").hexdigest()
