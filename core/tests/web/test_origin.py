"""What a web page in a user's browser can and cannot do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_core.errors import LlamaError
from llama_core.web import Sites
from llama_core.web.origin import Origin, parse_authority, parse_origin

OURS = [
    b"localhost",
    b"localhost:8000",
    b"LOCALHOST:8000",
    b"localhost.:8000",
    b"127.0.0.1:8000",
    b"127.8.9.1",
    b"[::1]:8000",
    b"[0:0:0:0:0:0:0:1]",
    b"[::ffff:127.0.0.1]:8000",
    b"llama.example",
    b"LLaMA.example:443",
]
REBOUND = [
    b"evil.example",
    b"evil.example:8000",
    b"localhost.evil.example",
    b"127.0.0.1.evil.example",
    b"evil-localhost",
    b"llama.example.evil",
    b"192.168.1.5:8000",
    b"0.0.0.0:8000",
    b"[::]:8000",
    b"[::ffff:10.0.0.1]",
    b"127.1",
    b"2130706433",
    b"0x7f000001",
]
GARBAGE = [
    b"",
    b" ",
    b"localhost:",
    b"localhost:99999",
    b"localhost:8000:1",
    b"localhost:8000@evil.example",
    b"evil.example#localhost",
    b"http://localhost",
    b"::1",
    b"[::1",
    b"[zz]",
    b"[1.2.3]",
    b"localhost\xe9",
    b"localhost, evil.example",
    b"localhost\n",
]
FOREIGN = [
    b"http://evil.example",
    b"https://evil.example",
    b"http://localhost:3000",
    b"https://localhost:8000",
    b"http://127.0.0.1:8000",
    b"http://app.example",
    b"https://app.example:8443",
    b"https://app.example.evil",
    b"https://app.example/",
    b"https://app.example https://evil.example",
    b"null",
    b"*",
    b"",
    b"\xff",
]


@pytest.mark.parametrize("host", OURS)
def test_our_own_names_are_served(guard, client, host):
    assert client(host=host).http(guard()).status == 200
    assert client("/public", host=host).websocket(guard()).kinds == ["websocket.accept"]


@pytest.mark.parametrize("host", REBOUND)
def test_a_rebound_name_is_refused_on_public_routes_too(guard, client, echo, secrets, host):
    app = echo()
    answer = client(host=host, key=secrets["admin"]).http(guard(app))
    assert answer.status == 403
    assert answer.error["code"] == "host_not_allowed"
    assert client("/public", host=host).websocket(guard(app)).kinds == ["websocket.close"]
    assert not app.scopes


@pytest.mark.parametrize("host", [*GARBAGE, None])
def test_a_host_that_is_none_is_a_bad_request(guard, client, host):
    assert client(host=host).http(guard()).status == 400


def test_two_hosts_are_a_bad_request(guard, client):
    assert client(headers=[(b"host", b"localhost")]).http(guard()).status == 400


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_foreign_page_is_refused_with_and_without_a_key(guard, client, echo, secrets, origin):
    app = echo()
    for key in (None, secrets["infer"]):
        for path, method in [("/health", "GET"), ("/v1/chat/completions", "POST")]:
            answer = client(path, method, key=key, origin=origin).http(guard(app))
            assert answer.status == 403
            assert answer.error["code"] == "origin_not_allowed"
            assert answer.header(b"access-control-allow-origin") is None
        assert client("/v1/stream", key=key, origin=origin).websocket(guard(app)).kinds == [
            "websocket.close"
        ]
    assert not app.scopes


def test_two_origins_are_a_foreign_page(guard, client):
    ours = b"http://localhost:8000"
    answer = client(origin=ours, headers=[(b"origin", ours)]).http(guard())
    assert answer.status == 403


@pytest.mark.parametrize(
    ("origin", "extra"),
    [
        (b"http://localhost:8000", {}),
        (b"https://app.example", {}),
        (b"https://app.example:443", {}),
        (b"https://localhost:8000", {"scheme": "https"}),
    ],
)
def test_our_own_and_allowed_pages_are_served(guard, client, origin, extra):
    assert client(origin=origin, extra=extra).http(guard()).status == 200
    socket = {"scheme": "wss"} if extra else {}
    assert client("/public", origin=origin, extra=socket).websocket(guard()).kinds == [
        "websocket.accept"
    ]


def test_an_allowed_page_may_read_answers_and_refusals(guard, client):
    for path, status in [("/health", 200), ("/v1/models", 401), ("/nowhere", 404)]:
        answer = client(path, origin=b"https://app.example").http(guard())
        assert answer.status == status
        assert answer.header(b"access-control-allow-origin") == b"https://app.example"
        assert answer.header(b"vary") == b"Origin"
        assert answer.header(b"access-control-allow-credentials") is None


def test_an_answer_without_a_page_still_varies_by_origin(guard, client):
    answer = client().http(guard())
    assert answer.header(b"vary") == b"Origin"
    assert answer.header(b"access-control-allow-origin") is None


def test_the_applications_own_wildcard_is_dropped(guard, client, echo):
    app = echo([(b"Access-Control-Allow-Origin", b"*")])
    assert b"*" not in [v for _, v in client().http(guard(app)).sent[0]["headers"]]


ASKS = (b"access-control-request-method", b"POST")


def test_a_preflight_names_the_methods_of_the_path_and_needs_no_key(guard, client, echo):
    app = echo()
    names = b"authorization, content-type, x-stainless-os"
    answer = client(
        "/v1/chat/completions",
        "OPTIONS",
        origin=b"https://app.example",
        headers=[ASKS, (b"access-control-request-headers", names)],
    ).http(guard(app))
    assert answer.status == 204
    assert answer.text == b""
    assert answer.header(b"access-control-allow-origin") == b"https://app.example"
    assert answer.header(b"access-control-allow-methods") == b"POST"
    assert answer.header(b"access-control-allow-headers") == names
    assert not app.scopes


def test_a_preflight_from_elsewhere_or_for_nothing_is_refused(guard, client):
    def preflight(path, origin, *headers):
        return client(path, "OPTIONS", origin=origin, headers=list(headers)).http(guard())

    assert preflight("/v1/chat/completions", b"https://evil.example", ASKS).status == 403
    assert preflight("/nowhere", b"https://app.example", ASKS).status == 404
    assert preflight("/v1/chat/completions", b"https://app.example").status == 405
    injected = (b"access-control-request-headers", b"x\r\nset-cookie: y")
    answer = preflight("/v1/chat/completions", b"https://app.example", ASKS, injected)
    assert answer.header(b"access-control-allow-headers") is None


def test_sites_follow_from_the_bind(guard, client):
    def status(bound, host, **more):
        return client(host=host).http(guard(sites=Sites.for_bind(bound, **more))).status

    assert status("192.168.1.5", b"192.168.1.5:8000") == 200
    assert status("192.168.1.5", b"192.168.1.6:8000") == 403
    assert status("fe80::1%eth0", b"[fe80::1]:8000") == 200
    for wildcard in ("0.0.0.0", "::", ""):
        assert status(wildcard, b"10.1.2.3:8000") == 200
        assert status(wildcard, b"evil.example") == 403
        assert status(wildcard, b"llama.example", names=["llama.example"]) == 200


@pytest.mark.parametrize("origin", ["*", "null", "app.example", "https://", "https://*.example"])
def test_no_wildcard_can_be_allowed(origin):
    with pytest.raises(LlamaError, match="Name each one in full"):
        Sites.for_bind("127.0.0.1", origins=[origin])


def test_a_name_that_is_none_is_named():
    with pytest.raises(LlamaError, match="'not a name'"):
        Sites.for_bind("127.0.0.1", names=["not a name"])


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.text(max_size=40) | st.from_regex(r"\[?[0-9a-f:.]{0,20}\]?(:\d{0,6})?", fullmatch=True))
def test_parsing_any_host_gives_one_spelling_or_nothing(text):
    parsed = parse_authority(text)
    if parsed:
        host, port = parsed
        spelled = f"[{host}]" if ":" in host else host
        again = spelled if port is None else f"{spelled}:{port}"
        assert parse_authority(again) == parsed
        assert parse_origin(f"http://{again}") == Origin("http", host, port or 80)
