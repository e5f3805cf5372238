"""Who may call: rebound names, pages of strangers, bodies of forms, credentials, and what browsers are told."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from hayate.errors import UsageError
from hayate.server.app import create_app
from hayate.server.options import (
    ServeOptions,
    check_options,
    is_loopback,
    parse_credentials,
    parse_token,
)
from hayate.server.security import Guard
from hayate.settings import load_settings
from tests.server.stub_desk import StubDesk

HERE = "http://localhost:7860"
JOB = {"kind": "generate", "body": {"request": {"prompt": "a lake"}}}


def client(folder: Path, **options: Any) -> TestClient:
    desk = StubDesk(folder)
    desk.start()
    settings = load_settings({"data_dir": folder}, environment={})
    return TestClient(create_app(desk, settings, ServeOptions(**options)), base_url=HERE)


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[TestClient]:
    with client(tmp_path) as opened:
        yield opened


def jobs_of(caller: TestClient) -> int:
    return len(caller.get("/v1/jobs").json()["jobs"])


@pytest.mark.parametrize(
    "host", ["localhost:7860", "127.0.0.1", "127.0.0.1:9", "[::1]:7860", "LOCALHOST:7860", "localhost."]
)
def test_every_loopback_name_is_this_server(caller: TestClient, host: str) -> None:
    assert caller.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:7860",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "192.168.1.7:7860",
        "evil.example#localhost",
        "localhost, evil.example",
        "",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("origin", [None, "http://evil.example:7860"])
def test_a_rebound_name_reaches_nothing(caller: TestClient, host: str, method: str, origin: str | None) -> None:
    headers = {"Host": host} | ({"Origin": origin} if origin else {})
    answer = caller.request(method, "/v1/jobs", headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"] == "ForeignHost"


def test_names_of_the_users_own_are_known(tmp_path: Path) -> None:
    with client(tmp_path, names=("Pictures.example",)) as caller:
        assert caller.get("/healthz", headers={"Host": "pictures.example"}).status_code == 200
        own = {"Host": "pictures.example", "Origin": "https://pictures.example"}
        assert caller.post("/v1/jobs", json=JOB, headers=own).status_code == 202
        other = {"Host": "pictures.example", "Origin": "http://localhost"}
        assert caller.post("/v1/jobs", json=JOB, headers=other).status_code == 403


def test_an_open_server_is_known_by_any_address_but_not_by_any_name(tmp_path: Path) -> None:
    who = parse_credentials("me:secret", "--api-auth")
    with client(tmp_path, host="0.0.0.0", credentials=who) as caller:
        assert caller.get("/healthz", headers={"Host": "192.168.1.7:7860"}).status_code == 200
        assert caller.get("/healthz", headers={"Host": "[2001:db8::1]:7860"}).status_code == 200
        assert caller.get("/healthz", headers={"Host": "evil.example:7860"}).status_code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),
        ({"Origin": HERE}, 202),
        ({"Origin": "http://127.0.0.1:7860"}, 202),
        ({"Origin": "http://127.0.0.1:7860", "Sec-Fetch-Site": "cross-site"}, 202),
        ({"Origin": "http://[::1]:7860"}, 202),
        ({"Sec-Fetch-Site": "same-origin"}, 202),
        ({"Sec-Fetch-Site": "none"}, 202),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://evil.example:7860"}, 403),
        ({"Origin": "http://localhost:3000"}, 403),
        ({"Origin": "http://localhost"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "file://"}, 403),
        ({"Origin": "http://localhost:7860@evil.example"}, 403),
        ({"Origin": "http://localhost:7860.evil.example"}, 403),
        ({"Origin": "ws://localhost:7860"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_only_own_pages_change_something(caller: TestClient, headers: dict[str, str], status: int) -> None:
    answer = caller.post("/v1/jobs", json=JOB, headers=headers)
    assert answer.status_code == status
    assert jobs_of(caller) == (status == 202)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_what_a_form_can_send_is_not_read(caller: TestClient, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = caller.post("/v1/jobs", content=json.dumps(JOB), headers=headers)
    assert answer.status_code == 415
    assert jobs_of(caller) == 0


def test_an_empty_form_ends_no_job(caller: TestClient) -> None:
    id_ = caller.post("/v1/jobs", json=JOB).json()["id"]
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert caller.post(f"/v1/jobs/{id_}/skip", headers=form).status_code == 415


def test_a_post_without_body_and_origin_is_a_program_and_may(caller: TestClient) -> None:
    id_ = caller.post("/v1/jobs", json=JOB).json()["id"]
    assert caller.post(f"/v1/jobs/{id_}/skip").status_code == 200
    assert caller.delete(f"/v1/jobs/{id_}").json()["state"] == "cancelled"


def test_a_link_on_another_site_may_be_followed(caller: TestClient) -> None:
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert caller.get("/healthz", headers=followed).status_code == 200


def test_pages_elsewhere_are_let_in_by_name_only(tmp_path: Path) -> None:
    with client(tmp_path, origins=("https://photos.example",)) as caller:
        known = {"Origin": "https://photos.example"}
        asks = {**known, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        assert caller.options("/v1/jobs", headers=asks).status_code == 200
        answer = caller.post("/v1/jobs", json=JOB, headers=known)
        assert answer.status_code == 202
        assert answer.headers["access-control-allow-origin"] == "https://photos.example"
        assert caller.post("/v1/jobs", json=JOB, headers={"Origin": "https://evil.example"}).status_code == 403


def test_nothing_is_shared_with_other_origins_by_default(caller: TestClient) -> None:
    answer = caller.get("/v1/jobs", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/healthz", "/nothing", "/v1/jobs/nope", "/openapi.json"])
def test_every_answer_carries_the_policy(caller: TestClient, path: str) -> None:
    headers = caller.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_refusals_carry_it_too(caller: TestClient) -> None:
    assert "content-security-policy" in caller.get("/", headers={"Host": "evil.example"}).headers


def test_a_body_that_is_said_to_be_too_large_is_not_read(tmp_path: Path) -> None:
    with client(tmp_path, body_cap_bytes=1000) as caller:
        answer = caller.post("/v1/jobs", json={**JOB, "client": "x" * 2000})
        assert answer.status_code == 413
        assert answer.json()["error"] == "ContentTooLarge"


def test_a_body_of_unsaid_length_is_cut_off_while_it_comes(tmp_path: Path) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 100_000:
            sent += 100
            yield b" " * 100

    with client(tmp_path, body_cap_bytes=1000) as caller:
        answer = caller.post("/v1/jobs", content=endless(), headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
        assert jobs_of(caller) == 0


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def test_credentials_open_everything_and_nothing_else_does(tmp_path: Path) -> None:
    who = parse_credentials("me:secret,Jürgen:a:b", "--api-auth")
    with client(tmp_path, credentials=who, token=parse_token("0123456789abcdef")) as caller:
        for path in ("/", "/v1/jobs", "/openapi.json", "/metrics", "/sdapi/v1/options", "/nothing"):
            answer = caller.get(path)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"].startswith("Basic ")
        good = [basic("me", "secret"), basic("Jürgen", "a:b"), {"Authorization": "Bearer 0123456789abcdef"}]
        good.append(basic("anybody", "0123456789abcdef"))  # a browser asks for a name and a password
        bad = [
            basic("me", "Secret"),
            basic("me", ""),
            basic("Jürgen", "secret"),
            basic("", ""),
            {"Authorization": "Bearer "},
            {"Authorization": "Bearer 0123456789abcdeF"},
            {"Authorization": "Basic !!!"},
            {"Authorization": "Basic /w=="},
            {"Authorization": "Digest x"},
        ]
        assert [caller.get("/v1/jobs", headers=each).status_code for each in good] == [200] * len(good)
        assert [caller.get("/v1/jobs", headers=each).status_code for each in bad] == [401] * len(bad)
        assert caller.get("/healthz").status_code == 200
        foreign = {**basic("me", "secret"), "Origin": "https://evil.example"}
        assert caller.post("/v1/jobs", json=JOB, headers=foreign).status_code == 403


def test_passwords_are_compared_as_a_whole_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []
    (who,) = parse_credentials("me:secret", "--api-auth")

    def note(left: bytes, right: bytes) -> bool:
        compared.append((len(left), len(right)))
        return left == right

    monkeypatch.setattr("hayate.server.options.hmac.compare_digest", note)
    assert who.fits("me", "secret")
    assert not who.fits("x", "y" * 1000)
    assert compared == [(32, 32)] * 4  # of equal length, and both parts whichever is wrong
    assert "secret" not in repr(who)


@pytest.mark.parametrize("text", ["", ",", "me", "me:", ":secret", "me:secret,you"])
def test_a_credential_without_a_password_is_a_mistake(text: str) -> None:
    with pytest.raises(UsageError, match="--api-auth"):
        parse_credentials(text, "--api-auth")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7"])
def test_nobody_serves_the_network_without_asking_who_calls(host: str) -> None:
    with pytest.raises(UsageError, match="nobody would be asked"):
        check_options(ServeOptions(host=host))
    check_options(ServeOptions(host=host, token=parse_token("0123456789abcdef")))


@pytest.mark.parametrize("origin", ["*", "null", "photos.example", "https://photos.example/page", ""])
def test_origins_are_written_out(origin: str) -> None:
    with pytest.raises(UsageError, match="is no origin"):
        check_options(ServeOptions(origins=(origin,)))


def test_loopback_is_more_than_one_address() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "nowhere.invalid")] == [False] * 4


HOSTS = st.one_of(
    st.text(max_size=30),
    st.builds(str.__add__, st.sampled_from(["localhost", "127.0.0.1", "[::1]", "evil.example"]), st.text(max_size=12)),
)


@given(host=HOSTS, origin=st.one_of(st.none(), HOSTS.map(lambda text: f"http://{text}")))
def test_whatever_is_let_in_has_a_loopback_host_and_no_foreign_origin(host: str, origin: str | None) -> None:
    """Against a rule that is written down anew: what gets in has one of the names, with a port or without."""
    let_in: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001
        let_in.append("here")

    async def ignore(_: Any) -> None: ...

    headers = [(b"host", host.encode("utf-8", "replace"))]
    headers += [(b"origin", origin.encode("utf-8", "replace"))] if origin is not None else []
    scope = {"type": "http", "method": "POST", "path": "/v1/jobs", "headers": headers}
    asyncio.run(Guard(application, ServeOptions())(scope, lambda: None, ignore))  # pyright: ignore[reportArgumentType]
    if let_in:
        name = (
            host.strip().lower().rstrip("0123456789").rstrip(":")
            if not host.strip().startswith("127")
            else host.strip()
        )
        assert name.rstrip(".") in ("localhost", "[::1]", "127.0.0.1") or name.startswith("127.")
        assert origin is None or "evil" not in origin


def test_a_web_socket_is_held_to_the_same_rules() -> None:
    said: list[dict[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001
        said.append({"type": "in"})

    async def send(message: Any) -> None:
        said.append(message)

    def ask(**headers: str) -> dict[str, Any]:
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "websocket", "path": "/", "headers": raw}
        asyncio.run(Guard(application, ServeOptions())(scope, lambda: None, send))  # pyright: ignore[reportArgumentType]
        return said[-1]

    assert ask(host="localhost:7860", origin="http://localhost:7860") == {"type": "in"}
    assert ask(host="localhost:7860", origin="http://evil.example")["code"] == 1008
    assert ask(host="localhost:7860", origin="null")["code"] == 1008
    assert ask(host="evil.example:7860", origin="http://evil.example:7860")["code"] == 1008
