"""Which hyperparameter regularises which feature: a number of groups, or a file of them."""

import os
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shine_exp.bilevel.problems.linear.feature_groups import feature_groups
from shine_exp.errors import UserError


def rows_of(n_features: int) -> np.ndarray:
    return np.ones((2, n_features))


def refusal(groups: str) -> str:
    with pytest.raises(UserError) as caught:
        feature_groups(groups, rows_of(3))
    message = str(caught.value)
    assert message.startswith(f"problem.groups={groups}: ")
    assert message.isprintable(), "one line"
    return message.removeprefix(f"problem.groups={groups}: ")


def test_feature_groups_are_contiguous_and_nearly_equal() -> None:
    assert feature_groups(3, rows_of(7)).tolist() == [0, 0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
def test_feature_groups_by_frequency_have_equal_numbers_of_non_zeros(form) -> None:
    x = np.zeros((6, 7))
    for feature, frequency in enumerate([1, 6, 0, 2, 3, 1, 1]):
        x[:frequency, feature] = 0.5
    # 14 non-zeros: a frequent word alone; then those of 3 and 2 rows; then the rare ones.
    assert feature_groups(3, form(x), "frequency").tolist() == [2, 0, 2, 1, 1, 2, 2]


@given(
    arrays(np.float64, (5, 9), elements=st.sampled_from([0.0, 0.0, 0.0, 1.0, -2.0])),
    st.integers(1, 9),
)
def test_feature_groups_by_frequency_are_all_there_and_sorted(x: np.ndarray, n: int) -> None:
    groups = feature_groups(n, sp.csr_matrix(x), "frequency").numpy()
    assert np.array_equal(np.unique(groups), np.arange(n))
    frequency = np.count_nonzero(x, axis=0)
    for group in range(n - 1):
        assert frequency[groups == group].min() >= frequency[groups == group + 1].max()


def test_feature_groups_by_frequency_are_contiguous_where_all_features_are_as_frequent() -> None:
    assert feature_groups(3, np.ones((4, 6)), "frequency").tolist() == [0, 0, 1, 1, 2, 2]


def test_feature_groups_refuse_grouping_of_file(tmp_path: Path) -> None:
    (tmp_path / "groups").write_text("0 0 1")
    with pytest.raises(UserError, match=r"problem\.grouping=frequency: the groups are those of a"):
        feature_groups(str(tmp_path / "groups"), rows_of(3), "frequency")


@pytest.mark.parametrize("groups", [0, 5])
def test_feature_groups_refuse_number_that_features_do_not_allow(groups: int) -> None:
    with pytest.raises(UserError, match="take 1 to 4"):
        feature_groups(groups, rows_of(4))


def test_feature_groups_file_may_put_features_together(tmp_path: Path) -> None:
    (tmp_path / "groups").write_text("5\n5\n2\n9\n")
    assert feature_groups(str(tmp_path / "groups"), rows_of(4)).tolist() == [1, 1, 0, 2]


@pytest.mark.parametrize(
    "content",
    [
        b"5\n2\n9\n",
        b"5 2 9",
        b"# group numbers\n5\n2 # the second\n\n9",
        b"\xef\xbb\xbf5\r\n2\r\n9\r\n",
        b"9\n2\n11",
    ],
)
def test_feature_groups_file_is_numbered_without_gaps(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "groups").write_bytes(content)
    assert feature_groups(str(tmp_path / "groups"), rows_of(3)).tolist() == [1, 0, 2]


def test_feature_groups_file_is_found_from_working_folder_and_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "groups").write_text("0 1")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for path in ("groups", "~/groups"):
        assert feature_groups(path, rows_of(2)).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "the file is not a list of integers (UserWarning: loadtxt: input contained no data"),
        (b"# nothing\n", "the file is not a list of integers (UserWarning"),
        (
            b"0 1",
            "the file holds 2 integers, but the data have 3 features; give one integer per feature",
        ),
        (
            b"0 1 2 3",
            "the file holds 4 integers, but the data have 3 features; give one integer per feature",
        ),
        (b"0 -1 1", "the file holds -1, but groups count from 0; give one integer per feature"),
        (b"0 1.5 1", "the file is not a list of integers (ValueError"),
        (b"0 1.0 1", "the file is not a list of integers ("),
        (b"0 nan 1", "the file is not a list of integers (ValueError"),
        (b"0 99999999999999999999 1", "the file is not a list of integers ("),
        (
            b"0 x 1",
            "the file is not a list of integers (ValueError: could not convert string 'x' to int64",
        ),
        (b"0\n1 2\n", "the file is not a list of integers (ValueError"),
        (b"\x1f\x8b\x08\0\0\0", "the file is not a list of integers ("),
        (b"\xff\xfe0\0", "the file is not a list of integers (UnicodeDecodeError"),
        (b"0\0 1 2", "the file is not a list of integers ("),
        (
            b"0" * 70_000,
            "the file has 70000 bytes, too many for 3 integers; give one integer per feature",
        ),
    ],
)
def test_feature_groups_refuse_file_that_is_no_list(
    tmp_path: Path, content: bytes, fault: str
) -> None:
    (tmp_path / "groups").write_bytes(content)
    assert refusal(str(tmp_path / "groups")).startswith(fault)


@pytest.mark.parametrize("kind", ["absent", "folder", "pipe", "link"])
def test_feature_groups_refuse_what_is_neither_number_nor_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "link":
            path.symlink_to(tmp_path / "nothing")
    message = "neither a number nor a file; give a file with one integer per feature"
    assert refusal(str(path)) == message
