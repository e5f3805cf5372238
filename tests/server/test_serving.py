"""The server as a process: it starts, is the only one, lets in whom it should, and ends within seconds."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hayate import __version__
from hayate.cli.main import main

ROOT = Path(__file__).resolve().parent.parent.parent
JOB = {"kind": "generate", "body": {"request": {"prompt": "a lake"}}}
JSON = {"Content-Type": "application/json"}


class Server:
    """A `hayate serve` whose desk has no worker, in its own process."""

    def __init__(self, folder: Path, *words: str, **environment: str) -> None:
        folder.mkdir(exist_ok=True)
        place = len(list(folder.glob("*.out")))
        self.said, self.complained = folder / f"{place}.out", folder / f"{place}.err"
        variables = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "HOME": str(folder),
            "XDG_DATA_HOME": str(folder / "data"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            **environment,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.server.serve_stub", "--port", "0", *words],
            cwd=ROOT,
            env=variables,
            stdout=self.said.open("w"),
            stderr=self.complained.open("w"),
        )
        self.port = 0

    def until_ready(self) -> Server:
        while not (found := re.match(r"Running on local URL:  http://127\.0\.0\.1:(\d+)\n", self.said.read_text())):
            assert self.process.poll() is None, self.complained.read_text()
            time.sleep(0.005)
        self.port = int(found[1])
        return self

    def until_ended(self) -> tuple[int, str, str]:
        """Exit code, and what it said and complained of."""
        return self.process.wait(timeout=30), self.said.read_text(), self.complained.read_text()

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(
                method, path, body=None if body is None else json.dumps(body), headers={} if body is None else JSON
            )
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def end(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str, str, float]:
        """The same, and how many seconds the end took."""
        started_s = time.monotonic()
        self.process.send_signal(how)
        return *self.until_ended(), time.monotonic() - started_s


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    started: list[Server] = []
    yield started
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait(timeout=20)


needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")


@needs_signals
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_code_0_under_load(servers: list[Server], tmp_path: Path, how: signal.Signals) -> None:
    """While streams are open and requests come in: whoever is answered after the signal hears 503, nobody a fault."""
    server = Server(tmp_path).until_ready()
    servers.append(server)
    stream = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    stream.request("GET", "/v1/events")
    events = stream.getresponse()
    statuses: list[int] = []

    def post() -> None:
        while True:
            try:
                statuses.append(server.ask("POST", "/v1/jobs", JOB)[0])
            except (OSError, http.client.HTTPException):
                return

    posting = [threading.Thread(target=post) for _ in range(3)]
    for each in posting:
        each.start()
    while len(statuses) < 20:
        time.sleep(0.01)
    code, _, complained, took_s = server.end(how)
    for each in posting:
        each.join(20)
    assert (code, complained) == (0, "")
    assert took_s < 5
    assert set(statuses) <= {202, 503}
    assert b"event: queued" in events.read()  # the stream was ended, not broken off
    stream.close()


def test_it_greets_as_a1111_does_and_answers(servers: list[Server], tmp_path: Path) -> None:
    server = Server(tmp_path, "--medvram", "--share", "--api").until_ready()
    servers.append(server)
    assert json.loads(server.ask("GET", "/healthz")[1]) == {"name": "hayate", "version": __version__}
    status, body = server.ask("GET", "/internal/profile-startup")
    assert status == 200
    assert {"interpreter", "socket", "queue", "routes"} <= set(json.loads(body)["records"])
    _, said, complained, _ = server.end()
    assert re.search(r"Startup time: \d+\.\d\ds \(interpreter: ", said)
    assert complained == "note: --share: nothing is shown through other people's servers; see --listen\n"


def test_routes_that_come_later_are_there_when_they_are_asked_for(servers: list[Server], tmp_path: Path) -> None:
    """From many callers at once, right after the start."""
    server = Server(tmp_path).until_ready()
    servers.append(server)
    answers: list[tuple[int, bytes]] = []
    asking = [threading.Thread(target=lambda: answers.append(server.ask("GET", "/openapi.json"))) for _ in range(8)]
    for each in asking:
        each.start()
    for each in asking:
        each.join(30)
    assert [status for status, _ in answers] == [200] * 8
    documents = [json.loads(body)["paths"] for _, body in answers]
    assert all("/sdapi/v1/txt2img" in paths and "/v1/jobs" in paths for paths in documents)
    assert server.ask("POST", "/sdapi/v1/img2img", {})[0] == 404  # A1111 says so where there is no picture


def test_the_profile_shows_what_was_imported(servers: list[Server], tmp_path: Path) -> None:
    server = Server(tmp_path, "--profile").until_ready()
    servers.append(server)
    imports = {
        each["module"]: each for each in json.loads(server.ask("GET", "/internal/profile-startup")[1])["imports"]
    }
    assert imports["fastapi"]["whole"] > imports["fastapi"]["own"] >= 0
    assert "torch" not in imports
    assert "fastapi.routing" in server.end()[1]


def test_a_second_instance_says_what_is_running(servers: list[Server], tmp_path: Path) -> None:
    first = Server(tmp_path).until_ready()
    servers.append(first)
    same_port = Server(tmp_path / "other", "--port", str(first.port))
    servers.append(same_port)
    code, _, complained = same_port.until_ended()
    assert code == 2
    assert complained.startswith(f"error: Hayate {__version__} is already running at http://127.0.0.1:{first.port}/")
    same_folder = Server(tmp_path)
    servers.append(same_folder)
    code, _, complained = same_folder.until_ended()
    assert code == 2
    assert complained.startswith(f"error: Hayate is running already, as process {first.process.pid}")
    assert first.ask("GET", "/healthz")[0] == 200


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line with which `hayate serve` refuses; nothing was started for it."""
    assert main(["serve", *words]) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert shown.out == ""
    return shown.err


def test_another_programs_port_is_named_with_the_next_one(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        threading.Thread(target=_hang_up, args=(taken,), daemon=True).start()
        port = taken.getsockname()[1]
        said = refused(capsys, "--port", str(port))
    assert f"port {port} of 127.0.0.1 is taken by another program (add --port {port + 1})" in said


def _hang_up(listening: socket.socket) -> None:
    while True:
        try:
            listening.accept()[0].close()
        except OSError:
            return


@pytest.mark.parametrize(
    "words", [["--listen"], ["--server-name", "0.0.0.0"], ["--server-name", "::"], ["--listen", "--nowebui"]]
)
def test_nobody_is_let_in_from_outside_without_a_credential(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "nobody would be asked who they are (add --api-auth" in refused(capsys, *words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--listen", "--api-auth", "me"], "--api-auth needs a name and a password"),
        (["--listen", "--gradio-auth", ""], "--gradio-auth names nobody"),
        (["--listen", "--api-token", "short"], "too short"),
        (["--gradio-auth-path", "/no/such/file"], "can't read"),
        (["--cors-allow-origins", "*"], "'*' is no origin"),
        (["--theme", "pink"], "not a theme"),
        (["--subpath", "a b"], "--subpath 'a b' is no path (write --subpath sd"),
        (["--device", "gpu"], "unknown device 'gpu' (nearest: cpu"),
        (["--devices", "cpu,cuda:x"], "device 'cuda:x' has no number after the colon (write cuda:0)"),
        (["--devices", "cuda:0,cuda:1", "--device-id", "1"], "--devices and --device-id contradict each other"),
        (["--devices", "cuda:0,cuda:1", "--device", "cpu"], "--devices and --device contradict each other"),
        (["--devices", "cuda:0,cuda:1", "--use-cpu", "all"], "--devices and --use-cpu contradict each other"),
        (["--tls-keyfile", "key.pem"], "TLS needs a key and a certificate"),
        (["--server-name", "192.0.2.77", "--api-auth", "a:b"], "no address of this machine"),
        (["--port", "70000"], "--port"),
        (["--prot", "7"], "nearest: --port"),
        (["--lisen"], "nearest: --listen"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert expected in refused(capsys, *words)


def test_the_flags_of_a1111_open_it_to_others_with_a_password(servers: list[Server], tmp_path: Path) -> None:
    file = tmp_path / "who.txt"
    file.write_text("me:secret\nyou:other\n")
    server = Server(tmp_path, "--listen", "--gradio-auth-path", str(file)).until_ready()
    servers.append(server)
    assert server.ask("GET", "/v1/jobs")[0] == 401
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", "/v1/jobs", headers={"Authorization": "Basic eW91Om90aGVy"})
    assert connection.getresponse().status == 200


def test_a_thousand_jobs_that_are_taken_are_done(servers: list[Server], tmp_path: Path) -> None:
    server = Server(tmp_path, STUB_AUTO="1").until_ready()
    servers.append(server)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    statuses = []
    for _ in range(1000):
        connection.request("POST", "/v1/jobs", body=json.dumps(JOB), headers=JSON)
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
    assert set(statuses) == {202}
    done = json.loads(server.ask("GET", "/v1/jobs?state=done&limit=1000")[1])["jobs"]
    assert len({job["id"] for job in done}) == 1000


@pytest.mark.parametrize("path", ["/v1/images", "/v1/jobs", "/sdapi/v1/txt2img"])
def test_a_caller_that_hangs_up_in_the_middle_is_no_fault(servers: list[Server], tmp_path: Path, path: str) -> None:
    server = Server(tmp_path).until_ready()
    servers.append(server)
    kind = "image/png" if path == "/v1/images" else "application/json"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 1000\r\n\r\n"
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as opened:
            opened.sendall(head.encode() + b"{")
    assert server.ask("GET", "/v1/jobs")[0] == 200
    code, _, complained, _ = server.end()
    assert (code, complained) == (0, "")


def state_of(server: Server, path: str) -> str:
    return json.loads(server.ask("GET", path)[1])["state"]


def until(claim: Callable[[], bool]) -> None:
    """Raises: AssertionError where it does not come true within twenty seconds."""
    until_s = time.monotonic() + 20
    while not claim():
        assert time.monotonic() < until_s
        time.sleep(0.02)


@needs_signals
def test_what_ran_when_it_ended_runs_at_the_next_start(servers: list[Server], tmp_path: Path) -> None:
    """The real queue, with a worker that needs no torch; a call that waits hears 503."""
    first = Server(tmp_path, "--grace", "0.2", LIGHT="1").until_ready()
    servers.append(first)

    def handed_in(steps: int) -> str:
        job = {"kind": "generate", "body": {"request": {"prompt": "slow", "steps": steps, "seed": 1}}}
        return f"/v1/jobs/{json.loads(first.ask('POST', '/v1/jobs', job)[1])['id']}"

    running, waiting = handed_in(120), handed_in(2)
    until(lambda: state_of(first, running) == "running")
    answers: list[tuple[int, bytes]] = []
    call = {"prompt": "a", "steps": 1}
    calling = threading.Thread(target=lambda: answers.append(first.ask("POST", "/sdapi/v1/txt2img", call)))
    calling.start()
    until(lambda: len(json.loads(first.ask("GET", "/v1/jobs?state=queued")[1])["jobs"]) == 2)
    code, _, complained, took_s = first.end()
    calling.join(20)
    assert (code, complained) == (0, "")
    assert took_s < 5
    assert [status for status, _ in answers] == [503]
    second = Server(tmp_path, LIGHT="1").until_ready()
    servers.append(second)
    until(lambda: state_of(second, running) == state_of(second, waiting) == "done")
    assert json.loads(second.ask("GET", running)[1])["attempt"] == 1  # a graceful end does not count
    assert second.end()[0] == 0


@needs_signals
def test_a_job_goes_on_when_nobody_listens_any_more(servers: list[Server], tmp_path: Path) -> None:
    """Who posts a job to /v1 may go: closing the stream of its events in the middle ends nothing."""
    server = Server(tmp_path, LIGHT="1").until_ready()
    servers.append(server)
    job = {"kind": "generate", "body": {"request": {"prompt": "slow", "steps": 60, "seed": 1}}}
    path = f"/v1/jobs/{json.loads(server.ask('POST', '/v1/jobs', job)[1])['id']}"
    stream = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    stream.request("GET", f"{path}/events")
    events = stream.getresponse()
    while not events.readline().startswith(b"event: progress"):
        pass
    stream.close()
    assert state_of(server, path) == "running"
    until(lambda: state_of(server, path) == "done")
    assert server.end()[0] == 0


READ_EVERYTHING = """
import sys
from pathlib import Path
from fastapi.testclient import TestClient
from hayate.server.app import create_app
from hayate.settings import load_settings
from tests.server.stub_desk import StubDesk
folder = Path(sys.argv[1])
settings = load_settings({"data_dir": folder, "cache_dir": folder}, environment={})
with TestClient(create_app(StubDesk(folder / "server"), settings), base_url="http://localhost") as caller:
    paths = [path for path, methods in caller.get("/openapi.json").json()["paths"].items() if "get" in methods]
    read = [path for path in (*paths, "/", "/ui/status", "/ui/choices") if "{" not in path and path != "/v1/events"]
    statuses = {path: caller.get(path).status_code for path in read}
print(len(statuses), [path for path, status in statuses.items() if status >= 500])
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "transformers", "scipy"}))
"""


def test_the_server_loads_no_torch_whatever_is_read(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    command = [sys.executable, "-c", READ_EVERYTHING, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    counted, loaded, *_ = done.stdout.splitlines()
    assert int(counted.partition(" ")[0]) > 30
    assert counted.endswith("[]")
    assert loaded == ""
