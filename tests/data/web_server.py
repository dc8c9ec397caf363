"""What a test knows of the web server that stands in for the real ones."""

from dataclasses import dataclass, field
from threading import Event


@dataclass
class Server:
    """Serves `content` at every path, or 404 where it is None, and keeps the requests.

    It holds on where told to.
    """

    url: str = ""
    content: bytes | None = None
    announced_length: int | None = None
    holds_on_until: Event | None = None
    requests: list[str] = field(default_factory=list)
