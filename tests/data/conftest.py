"""A web server on this machine in place of the real ones."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from web_server import Server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append(self.path)
            if state.content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(state.announced_length or len(state.content)))
            self.end_headers()
            self.wfile.write(state.content)
            if state.holds_on_until:
                self.wfile.flush()
                state.holds_on_until.wait()

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}/data"
    yield state
    if state.holds_on_until:
        state.holds_on_until.set()
    http.shutdown()
    thread.join()
    http.server_close()
