"""What a test knows of the web server that stands in for the real ones."""

from dataclasses import dataclass, field


@dataclass
class Server:
    """Serves `content` at every path, or 404 where it is None; counts the requests."""

    url: str = ""
    content: bytes | None = None
    announced_length: int | None = None
    requests: list[str] = field(default_factory=list)
