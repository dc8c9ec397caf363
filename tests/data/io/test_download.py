from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from threading import Event

import pytest
from web_server import Server

from shine_exp.data.io import download as module
from shine_exp.data.io.download import fetch
from shine_exp.errors import DataError


class Clock:
    """Goes on by so many seconds for each chunk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        self.now, self.seconds = 0.0, seconds
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)

    def chunks(self, n: int, size: int) -> Iterator[bytes]:
        for _ in range(n):
            self.now += self.seconds
            yield b"x" * size


def refusal(server: Server, path: Path) -> str:
    with pytest.raises(DataError) as caught:
        fetch(server.url, path)
    message = str(caught.value)
    assert message.startswith(f"cannot download {server.url} (")
    assert message.isprintable(), "one line"
    return message.removeprefix(f"cannot download {server.url} ")


@pytest.mark.parametrize(("seconds", "size"), [(1, 1), (10, 9_000), (100, 99_000), (0.001, 0)])
def test_slow_download_is_given_up(
    monkeypatch: pytest.MonkeyPatch, seconds: float, size: int
) -> None:
    chunks = Clock(monkeypatch, seconds).chunks(10**6, size)
    with pytest.raises(
        TimeoutError,
        match=rf"^{size * max(1, round(60 / seconds))} bytes in \d+ seconds: too slow$",
    ):
        list(module._in_time(chunks))


def test_download_that_becomes_slow_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, 1)
    with pytest.raises(TimeoutError, match=r"^60 bytes in 60 seconds: too slow$"):
        list(module._in_time(chain(clock.chunks(60, 10**6), clock.chunks(200, 1))))


def test_fast_download_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(list(module._in_time(Clock(monkeypatch, 1).chunks(1000, 1001)))) == 1000


def test_slow_download_is_noticed_at_its_first_byte(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content, server.announced_length, server.holds_on_until = b"x", 10**6, Event()
    monkeypatch.setattr(module, "PATIENCE", 0)
    monkeypatch.setattr(module, "SLOWEST", 1e12)
    assert refusal(server, tmp_path / "data").startswith(
        "(TimeoutError: 1 bytes in 0 seconds: too slow); put a copy"
    )
    assert [file.name for file in tmp_path.iterdir()] in ([], ["data.lock"])


def test_silent_server_is_given_up(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content, server.announced_length, server.holds_on_until = b"x", 10**6, Event()
    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    assert refusal(server, tmp_path / "data").startswith(
        "(TimeoutError: nothing came for 0.1 seconds); put a copy at"
    )


def test_download_of_no_end_is_given_up(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content = b"x" * 1001
    monkeypatch.setattr(module, "LARGEST", 1000)
    assert refusal(server, tmp_path / "data").startswith(
        "(OSError: it has more than 1000 bytes); put a copy at"
    )
    assert [file.name for file in tmp_path.iterdir()] in ([], ["data.lock"])
    monkeypatch.setattr(module, "LARGEST", 1001)
    assert fetch(server.url, tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == server.content
    assert not fetch(server.url, tmp_path / "data"), "it is there"


@pytest.mark.parametrize("name", ["data", "data.lock"])
def test_planted_link_is_not_followed(tmp_path: Path, server: Server, name: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    server.content = b"content"
    (tmp_path / "cache").mkdir()
    link = tmp_path / "cache" / name
    link.symlink_to(precious if name == "data.lock" else tmp_path / "nothing")
    if name == "data.lock":
        assert "symbolic links" in refusal(server, tmp_path / "cache" / "data")
    else:
        fetch(server.url, link)
        assert not link.is_symlink()
        assert not (tmp_path / "nothing").exists()
    assert precious.read_text() == "precious"
