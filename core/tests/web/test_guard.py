"""Who gets in: every route and WebSocket with every kind of credential."""

from __future__ import annotations

import asyncio
import itertools
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_core.web import CALLER, Guard, Keyring, Limits, Policy, Routes, Rule, Sites

# What a user reads in the manual, written out again so that the table is not its own witness.
HTTP = {
    "/health": {"GET": "public", "HEAD": "public"},
    "/v1/models": {"GET": "infer", "HEAD": "infer"},
    "/v1/models/org/name": {"GET": "infer", "HEAD": "infer"},
    "/v1/chat/completions": {"POST": "infer"},
    "/v1/train": {"POST": "train"},
    "/v1/models/load": {"POST": "admin", "GET": "infer", "HEAD": "infer"},
}
NOWHERE = ["/", "/v1", "/v1/train/", "/v1/modelsx", "/v1/stream", "/docs", "/openapi.json", "/v1/x"]
WEBSOCKETS = {"/v1/stream": "infer", "/v1/admin": "admin", "/public": "public"}
METHODS = [
    *["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "WEBSOCKET", "get", "*"]
]
CODES = {
    401: {"missing_api_key", "invalid_api_key"},
    403: {"insufficient_scope"},
    405: {"method_not_allowed"},
}
CREDENTIALS = [None, "wrong", "infer", "train", "admin"]


def secret_of(secrets, credential):
    return None if credential is None else secrets.get(credential, "llc_" + "A" * 43)


def expected(needed, credential):
    if needed == "public" or needed == credential:
        return 200
    return 401 if credential in (None, "wrong") else 403


@pytest.mark.parametrize("credential", CREDENTIALS)
def test_every_route_with_every_method_answers_only_whom_it_should(
    guard, client, secrets, credential
):
    for (path, methods), method in itertools.product(HTTP.items(), METHODS):
        answer = client(path, method, key=secret_of(secrets, credential)).http(guard())
        want = expected(methods[method], credential) if method in methods else 405
        assert answer.status == want, (path, method)
        if want != 200:
            assert answer.error["code"] in CODES[want]


@pytest.mark.parametrize("credential", CREDENTIALS)
@pytest.mark.parametrize("path", NOWHERE)
def test_what_is_not_in_the_table_does_not_exist(guard, client, secrets, echo, credential, path):
    app = echo()
    for method in METHODS:
        answer = client(path, method, key=secret_of(secrets, credential)).http(guard(app))
        assert answer.status == 404, method
        assert answer.error["code"] == "not_found"
    assert not app.scopes


@pytest.mark.parametrize("credential", CREDENTIALS)
def test_every_websocket_is_refused_before_it_is_accepted(guard, client, secrets, echo, credential):
    for path in [*WEBSOCKETS, "/health", "/v1/chat/completions", "/nowhere"]:
        app = echo()
        key = secret_of(secrets, credential)
        seen = client(path, key=key, messages=["hello"]).websocket(guard(app))
        answer = client(
            path, key=key, extra={"extensions": {"websocket.http.response": {}}}
        ).websocket(guard())
        want = expected(WEBSOCKETS[path], credential) if path in WEBSOCKETS else 404
        if want == 200:
            assert seen.kinds == ["websocket.accept", "websocket.send"]
            assert answer.kinds == ["websocket.accept"]
            continue
        assert seen.kinds == ["websocket.close"]
        assert seen.sent[0]["code"] == 1008
        assert answer.kinds == ["websocket.http.response.start", "websocket.http.response.body"]
        assert answer.status == want
        assert answer.error["code"]
        assert not app.scopes


def test_the_default_policy_lets_nobody_in_but_on_public_routes(client, echo):
    rules = [Rule("GET", "/health", "public"), Rule("GET", "/v1/models", "infer")]
    guard = Guard(echo(), Policy(Routes(rules)))
    assert client("/health").http(guard).status == 200
    assert client("/v1/models", client=("127.0.0.1", 1)).http(guard).status == 401


@pytest.mark.parametrize(
    ("peer", "status"),
    [
        (("127.0.0.1", 1), 200),
        (("::1", 1), 200),
        (None, 200),
        (("192.0.2.7", 1), 401),
        (("", 0), 401),
    ],
)
def test_without_any_key_only_this_machine_gets_what_the_policy_grants(guard, client, peer, status):
    open_here = guard(keys=Keyring(), keyless=frozenset({"infer"}))
    assert client("/v1/models", client=peer).http(open_here).status == status
    assert client("/v1/train", "POST", client=peer).http(open_here).status == 401


def test_the_first_key_ends_keyless_access(guard, client):
    closed = guard(keyless=frozenset({"infer"}))
    assert client("/v1/models", client=("127.0.0.1", 1)).http(closed).status == 401


def test_a_key_counts_only_as_the_one_bearer_header(guard, client, secrets):
    key = secrets["infer"].encode()
    refused = [
        [(b"authorization", key)],
        [(b"authorization", b"Basic " + key)],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer " + key + b" x")],
        [(b"authorization", b"Bearer " + key), (b"authorization", b"Bearer " + key)],
        [(b"x-api-key", key)],
        [(b"cookie", b"authorization=Bearer " + key)],
        [(b"sec-websocket-protocol", key)],
    ]
    for headers in refused:
        answer = client("/v1/models", headers=headers).http(guard())
        assert answer.status == 401
        assert answer.header(b"www-authenticate") == b"Bearer"
    query = {"query_string": b"api_key=" + key + b"&token=" + key}
    assert client("/v1/models", extra=query).http(guard()).status == 401
    assert client("/v1/stream", extra=query).websocket(guard()).kinds == ["websocket.close"]
    for word in (b"Bearer ", b"bearer ", b"BEARER  "):
        headers = [(b"Authorization", word + key)]
        assert client("/v1/models", headers=headers).http(guard()).status == 200


def test_the_application_learns_who_calls_but_never_the_key(guard, client, secrets, echo):
    app = echo()
    client("/v1/models", key=secrets["infer"]).http(guard(app))
    assert app.caller.name == "the-infer"
    assert secrets["infer"] not in repr(app.scopes)
    client("/health").http(guard(app))
    assert app.caller is None


def test_no_key_is_found_in_logs_errors_reprs_or_answers(guard, client, secrets, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    shown = []
    for (name, secret), path in itertools.product(
        secrets.items(), ["/v1/models", "/v1/train", "/x"]
    ):
        guarded = guard(limits=Limits(body_bytes=4))
        query = {"query_string": f"key={secret}".encode()}
        answers = [
            client(path, "POST", key=secret, extra=query, body=[b"too long"]).http(guarded),
            client(path, key=secret + "x").http(guarded),
            client(f"/{secret}", key=secret).http(guarded),
            client(path, key=secret).websocket(guarded),
        ]
        assert {a.status for a in answers[:3]} & {401, 403, 404, 405, 413}, name
        shown += [a.sent for a in answers] + [guarded.policy]
    output = "".join([repr(shown), caplog.text, *capfd.readouterr()])
    assert "refused 192.0.2.7: 401 invalid_api_key" in caplog.text
    for secret in secrets.values():
        assert secret not in output
        assert secret.removeprefix("llc_")[:12] not in output


def test_a_path_under_a_proxys_prefix_is_the_path_the_application_sees(guard, client):
    inside = {"root_path": "/llm"}
    assert client("/llm/health", extra=inside).http(guard()).status == 200
    assert client("/llm/v1/models", extra=inside).http(guard()).status == 401
    assert client("/llmhealth", extra=inside).http(guard()).status == 404
    beside = guard(routes=Routes([Rule("GET", "/llmhealth", "public")]))
    assert client("/llmhealth", extra=inside).http(beside).status == 200


def test_lifespan_passes_untouched_and_unknown_scopes_are_refused(guard):
    passed = []

    async def app(scope, receive, send):
        passed.append((scope, receive, send))

    async def nothing(*_):
        return {}

    scope = {"type": "lifespan", "state": {}}
    asyncio.run(guard(app)(scope, nothing, nothing))
    assert passed[0][0] is scope
    assert passed[0][1:] == (nothing, nothing)
    with pytest.raises(ValueError, match="mqtt"):
        asyncio.run(guard(app)({"type": "mqtt"}, nothing, nothing))
    assert len(passed) == 1


def test_an_applications_own_failure_is_not_hidden(guard, client):
    async def broken(scope, receive, send):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        client("/health").http(guard(broken))


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    name=st.sampled_from([b"authorization", b"host", b"origin", b"content-length", b"expect"]),
    value=st.one_of(
        st.binary(max_size=60),
        st.from_regex(rb"(Bearer|bearer|Basic)[ \t]*[!-~\x80-\xff]{0,20}", fullmatch=True),
        st.from_regex(rb"(https?://)?\[?[0-9a-f:.]{0,12}\]?(:[0-9]{0,7})?", fullmatch=True),
        st.from_regex(rb"[-+ 0-9_]{0,30}", fullmatch=True),
        st.just(b"9" * 6000),
    ),
)
def test_garbage_in_a_header_is_an_answer_never_an_exception(name, value):
    sent = []

    async def app(scope, receive, send):
        assert CALLER in scope
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    headers = [(name, value)]
    if name != b"host":
        headers.append((b"host", b"localhost"))
    scope = {"type": "http", "method": "GET", "path": "/health", "query_string": b""}
    policy = Policy(Routes([Rule("GET", "/health", "public")]), sites=Sites(any_address=True))
    asyncio.run(Guard(app, policy)({**scope, "headers": headers}, receive, send))
    assert sent[0]["status"] in (200, 400, 403, 413)
