import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.datasets import dump_svmlight_file, load_svmlight_file

from shine_exp.data.io import compressed
from shine_exp.data.sets import libsvm as module
from shine_exp.data.sets.libsvm import libsvm, read_libsvm
from shine_exp.errors import DataError

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".gz": gzip.compress,
}
GOOD = b"-1 1:0.5 3:2\n# a comment\n\n+1 2:1e-3 # another\n"
same_folder = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(folder: Path, content: bytes, suffix: str = "") -> Path:
    path = folder / f"data.txt{suffix}"
    path.write_bytes(COMPRESS[suffix](content))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        libsvm(str(path), "none")
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.isprintable(), "one line"
    return message.removeprefix(str(path))


@pytest.mark.parametrize("suffix", COMPRESS)
@given(
    x=arrays(float, (6, 4), elements=st.floats(-1e9, 1e9)),
    one_based=st.booleans(),
    low=st.integers(-3, 3),
)
@same_folder
def test_round_trip(tmp_path: Path, suffix: str, x: np.ndarray, one_based: bool, low: int) -> None:
    x[0, 0] = x[0, 3] = (
        1.0  # without an entry in the first and last column the file does not tell p
    )
    upper = np.array([1, 0, 1, 1, 0, 0])
    text = io.BytesIO()
    dump_svmlight_file(x, upper + low, text, zero_based=not one_based)
    data = libsvm(str(write(tmp_path, text.getvalue(), suffix)), "variance")
    assert isinstance(data.x, sp.csr_matrix)
    assert data.x.dtype == np.float64
    assert data.x.indices.dtype == data.x.indptr.dtype == np.int32
    assert data.scaling == "variance"
    np.testing.assert_allclose(data.x.toarray(), x, rtol=1e-15)
    np.testing.assert_array_equal(data.y, 2.0 * upper - 1)


def test_comments_blank_lines_and_query_ids_are_no_data(tmp_path: Path) -> None:
    data = libsvm(str(write(tmp_path, GOOD + b"1 qid:7 3:4\r\n")), "none")
    np.testing.assert_array_equal(data.x.toarray(), [[0.5, 0, 2], [0, 1e-3, 0], [0, 0, 4]])
    np.testing.assert_array_equal(data.y, [-1, 1, 1])


def test_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, GOOD)
    assert libsvm("~/data.txt", "none").x.shape == (2, 3)


def test_n_features_widens_and_never_narrows(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    data = libsvm(str(path), "none", n_features=5)
    assert data.x.indices.dtype == np.int32
    np.testing.assert_array_equal(data.x.toarray(), [[0.5, 0, 2, 0, 0], [0, 1e-3, 0, 0, 0]])
    with pytest.raises(DataError, match=r": has 3 features, more than data.n_features=2$"):
        libsvm(str(path), "none", n_features=2)


def test_refuses_a_file_that_is_missing_or_a_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent").startswith(": no such file; data.path takes LIBSVM text")
    assert refusal(tmp_path).startswith(": is not a file")


@pytest.mark.parametrize("suffix", COMPRESS)
def test_refuses_an_empty_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"data{suffix}"
    path.touch()
    assert refusal(path) == ": is empty"
    assert refusal(write(tmp_path, b"# only a comment\n\n", suffix)).startswith(": holds no rows")
    assert refusal(write(tmp_path, b"1\n-1\n", suffix)).startswith(": holds no features")


@pytest.mark.parametrize("suffix", COMPRESS)
def test_refuses_binary_noise(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).bytes(100_000)
    assert refusal(write(tmp_path, noise, suffix)).startswith(
        ": binary, not LIBSVM text; a compressed file is named"
    )


@pytest.mark.parametrize("suffix", [".bz2", ".xz", ".gz"])
def test_refuses_corrupt_compression(tmp_path: Path, suffix: str) -> None:
    lines = b"".join(b"%d 1:%.9g 2:%.9g\n" % (i % 2, i**0.5, 1 / (i + 1)) for i in range(5000))
    packed = COMPRESS[suffix](lines)
    path = tmp_path / f"data{suffix}"
    for damaged in (GOOD, packed[: len(packed) // 2], packed[:5000] + bytes(200) + packed[5200:]):
        path.write_bytes(damaged)
        assert refusal(path).startswith(": cannot be read, or is damaged (")


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"one 1:2", "the label 'one' is not a number"),
        (b"1,2 1:2", "the label '1,2' is not a number"),
        (b"1 2", "'2' is not index:value"),
        (b"1 1:2 x:2", "'x:2' is not index:value"),
        (b"1 1:2 2:y", "'2:y' is not index:value"),
        (b"1 1:2 -2:1", "'-2:1' is not index:value"),
        (b"1 1:", "'1:' is not index:value"),
        (b"1 3:1 2:1", "the feature index 2 follows 3; indices must ascend"),
        (b"1 3:1 3:1", "the feature index 3 follows 3; indices must ascend"),
        (b"1 2147483648:1", "the feature index '2147483648' is too large"),
        (b"1 1:" + b"z" * 99, "'1:" + "z" * 22 + "'… is not index:value"),
        (b"\xff\xfe 1:2", "the label '\\xff\\xfe' is not a number"),
    ],
)
def test_refuses_a_malformed_line_by_its_number(
    tmp_path: Path, suffix: str, line: bytes, fault: str
) -> None:
    assert refusal(write(tmp_path, GOOD + line + b"\n1 1:2\nbad\n", suffix)) == f", line 5: {fault}"


tokens = st.sampled_from(
    b"1|-1|1:2|2:3|3:nan|+4:1|1_0:1|-1:2|3|x|1:x|:|1:|:1|qid:3|qid|qidx:2|#|1:2#|\xff|9999999999:1|1e5|2:1:1".split(
        b"|"
    )
)
lines = st.lists(st.lists(tokens, max_size=4).map(b" ".join), max_size=6)


def stumbles(line: bytes) -> bool:
    try:
        load_svmlight_file(io.BytesIO(line))
    except (ValueError, OverflowError):
        return True
    return False


@given(lines)
@example([b"1 +4:1", b"1 qidx:2 1:2", b"1 x"])
@same_folder
def test_line_named_is_the_first_that_scikit_learn_stumbles_over(
    tmp_path: Path, lines: list[bytes]
) -> None:
    bad = [number for number, line in enumerate(lines, start=1) if stumbles(line)]
    path = write(tmp_path, b"\n".join([*lines, b"1 1:1\n"]))
    if bad:
        assert refusal(path).startswith(f", line {bad[0]}: ")
    else:
        read_libsvm(path)


@given(
    content=st.binary(max_size=200), suffix=st.sampled_from(sorted(COMPRESS)), packed=st.booleans()
)
@same_folder
def test_any_bytes_are_read_or_refused(
    tmp_path: Path, content: bytes, suffix: str, packed: bool
) -> None:
    path = tmp_path / f"data{suffix}"
    path.write_bytes(COMPRESS[suffix](content) if packed else content)
    try:
        x, labels = read_libsvm(path)
    except DataError as error:
        message = str(error)
    else:
        message = str(path)
        assert x.shape[0] == len(labels)
    assert message.startswith(str(path))


def test_refuses_other_than_two_classes(tmp_path: Path) -> None:
    assert (
        refusal(write(tmp_path, b"1 1:1\n1 1:2\n")) == ": needs labels of two classes, but has 1: 1"
    )
    assert (
        refusal(write(tmp_path, b"1 1:1\n2 1:2\n3 1:1"))
        == ": needs labels of two classes, but has 3: 1, 2, 3"
    )
    assert "a label is NaN" in refusal(write(tmp_path, b"1 1:1\nnan 1:2\n"))


@pytest.mark.parametrize("value", [b"nan", b"inf", b"-inf", b"1e999"])
def test_refuses_a_feature_that_is_not_finite(tmp_path: Path, value: bytes) -> None:
    path = write(tmp_path, b"1 1:1 3:4\n-1 1:1 3:" + value + b"\n")
    assert refusal(path) == ": feature 3 of row 2 is NaN or infinite; clean the data first"


def test_refuses_an_index_beyond_any_data_with_its_row(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + b"\n+1 2:1 2000000000:1\n")
    assert refusal(path) == (
        ": row 3 has the feature index 2000000000, but the file has 5 entries in all; correct the "
        "row or, if that many features are meant, set data.n_features=2000000000"
    )
    data = libsvm(str(path), "none", n_features=2_000_000_000)
    assert data.x.shape == (3, 2_000_000_000)
    assert data.x[2, 1_999_999_999] == 1


def test_refuses_an_index_from_zero_with_its_row(tmp_path: Path) -> None:
    path = write(tmp_path, b"1 0:1 2000000000:1\n-1 1:1\n")
    assert refusal(path).startswith(
        ": row 1 has the feature index 2000000000, but the file has 3 entries in all; "
    )


@pytest.mark.parametrize(
    ("n_entries", "n_features"), [(3, 10**6), (2000, 2 * 10**6), (10**5, 10**8)]
)
def test_width_is_plausible_by_the_number_of_entries(
    tmp_path: Path, n_entries: int, n_features: int
) -> None:
    rest = b" ".join(b"%d:1" % j for j in range(1, n_entries - 1))
    text = b"-1 1:1\n1 " + rest + b" %d:1\n"
    assert libsvm(str(write(tmp_path, text % n_features)), "none").x.shape == (2, n_features)
    assert f"row 2 has the feature index {n_features + 1}" in refusal(
        write(tmp_path, text % (n_features + 1))
    )


@pytest.mark.parametrize("suffix", COMPRESS)
def test_refuses_a_file_of_blank_lines(tmp_path: Path, suffix: str) -> None:
    blank = module.MOST_BLANK + 2 * compressed.BUFFER
    path = write(tmp_path, b"1 1:1\n" + b"\n" * blank + b"-1 1:1\n", suffix)
    assert refusal(path) == ": has 1048576 bytes of blank lines on end; it is damaged, or no data"


def test_blank_lines_between_rows_are_no_data(tmp_path: Path) -> None:
    text = b"1 1:1\n" + b"\n" * module.MOST_BLANK + b"-1 2:1\n" + b" \r\n" * 9 + b"1 1:1\n"
    assert libsvm(str(write(tmp_path, text, ".bz2")), "none").x.shape == (3, 2)


@pytest.mark.parametrize("suffix", [".bz2", ".xz", ".gz"])
def test_refuses_a_file_that_unpacks_to_no_end(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compressed, "ALWAYS_ALLOWED", 1 << 16)
    path = write(tmp_path, b"# nothing\n" * (1 << 16), suffix)
    allowed = (1 << 16) + 200 * path.stat().st_size
    assert refusal(path) == (
        f": unpacks to more than {allowed} bytes, 200 times its size; "
        "if that is meant, unpack it first"
    )
    assert "holds no rows" in refusal(write(tmp_path, b"# nothing\n" * (1 << 16)))


def test_path_is_from_the_working_folder_and_its_name_is_that_of_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "blob").write_bytes(bz2.compress(GOOD))
    (tmp_path / "mine.bz2").symlink_to("blob")
    monkeypatch.chdir(tmp_path)
    assert libsvm("mine.bz2", "none").name == str(tmp_path / "mine.bz2")


@pytest.mark.parametrize("path", ["~nobody-of-that-name/data", "nul\0", "x" * 300])
def test_refuses_what_can_be_no_path(path: str) -> None:
    with pytest.raises(DataError, match="cannot be read") as caught:
        libsvm(path, "none")
    assert str(caught.value).isprintable(), "one line"
