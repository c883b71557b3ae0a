"""What happens to a caller who sends too much, lies about it, or never finishes."""

from __future__ import annotations

import pytest

from llama_core.web import Limits

SMALL = Limits(body_bytes=10, num_headers=20, head_bytes=400)
SLOW = Limits(body_bytes=1000, body_seconds=5.0, body_bytes_per_second=10)


@pytest.fixture
def post(client, secrets):
    def send(app, body, **more):
        path = "/v1/chat/completions"
        return client(path, "POST", key=secrets["infer"], body=body, **more).http(app)

    return send


def declared(value):
    return [(b"content-length", value)]


@pytest.mark.parametrize("body", [[b""], [b"x" * 10], [b"x"] * 10, [b"", b"x" * 10, b""]])
def test_a_body_up_to_the_limit_is_served_whole(guard, post, body):
    answer = post(guard(limits=SMALL), body)
    assert answer.status == 200
    assert answer.text == b"%d" % len(b"".join(body))


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([], [b"x" * 11]),
        ([], [b"x"] * 11),
        ([(b"transfer-encoding", b"chunked")], [b"x" * 6] * 1000),
        (declared(b"3"), [b"x" * 6] * 1000),
        ([*declared(b"3"), (b"transfer-encoding", b"chunked")], [b"x" * 60]),
    ],
)
def test_a_streamed_body_is_cut_off_whatever_it_declares(guard, post, echo, headers, body):
    app = echo()
    answer = post(guard(app, limits=SMALL), body, headers=headers)
    assert answer.status == 413
    assert answer.error["code"] == "body_too_large"
    assert answer.header(b"connection") == b"close"
    assert sum(len(message["body"]) for message in app.read) <= 10


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (b"10", 200),
        (b"00000000000000000000010", 200),
        (b"11", 413),
        (b"9" * 390, 413),
        (b"-1", 400),
        (b"+1", 400),
        (b"1_0", 400),
        (b"", 400),
        (b"0x1", 400),
        (b"1, 1", 400),
    ],
)
def test_a_declared_length_is_refused_before_anything_is_read(guard, post, echo, value, status):
    app = echo()
    limits = Limits(body_bytes=10, head_bytes=4000)
    answer = post(guard(app, limits=limits), [b"x"], headers=declared(value))
    assert answer.status == status
    assert bool(app.scopes) == (status == 200)


def test_two_different_lengths_are_a_bad_request(guard, post):
    headers = declared(b"1") + declared(b"2")
    assert post(guard(), [b"x"], headers=headers).error["code"] == "invalid_content_length"


def test_too_many_or_too_long_headers_are_refused_before_the_key_is_looked_at(guard, client):
    many = [(b"x-%d" % n, b"") for n in range(21)]
    for request in (
        client("/v1/models", headers=many),
        client("/v1/models", headers=[(b"x", b"y" * 400)]),
        client("/v1/models", extra={"query_string": b"q" * 400}),
        client("/" + "p" * 400),
    ):
        answer = request.http(guard(limits=SMALL))
        assert answer.status == 413
        assert answer.error["code"] == "headers_too_large"
    socket = client("/public", headers=many).websocket(guard(limits=SMALL))
    assert socket.kinds == ["websocket.close"]


class Swallowing:
    """A framework that makes its own answer of whatever goes wrong while it reads."""

    def __init__(self, started=False, group=False):
        self.started = started
        self.group = group

    async def __call__(self, scope, receive, send):
        start = {"type": "http.response.start", "status": 400 if not self.started else 200}
        if self.started:
            await send(start)
        try:
            while (await receive())["more_body"]:
                pass
        except Exception as error:
            with pytest.raises(type(error)):
                await receive()
            if self.group:
                raise ExceptionGroup("wrapped", [error]) from None
        if not self.started:
            await send(start)
        await send({"type": "http.response.body", "body": b"mine"})


@pytest.mark.parametrize("group", [False, True])
def test_the_refusal_arrives_whatever_the_framework_makes_of_it(guard, post, group):
    answer = post(guard(Swallowing(group=group), limits=SMALL), [b"x" * 11])
    assert answer.status == 413
    assert answer.error["code"] == "body_too_large"


def test_an_answer_that_has_begun_is_finished_or_broken_off_by_the_application(guard, post):
    answer = post(guard(Swallowing(started=True), limits=SMALL), [b"x" * 11])
    assert (answer.status, answer.text) == (200, b"mine")
    with pytest.raises(ExceptionGroup):
        post(guard(Swallowing(started=True, group=True), limits=SMALL), [b"x" * 11])


def test_a_body_that_stops_coming_is_given_up(guard, post):
    limits = Limits(body_seconds=0.01)
    answer = post(guard(limits=limits), [b"x"], stall=True)
    assert answer.status == 408
    assert answer.error["code"] == "body_timeout"
    assert answer.header(b"connection") == b"close"


def test_a_trickle_is_given_up_though_it_never_stops(guard, post, clock, echo):
    def tick():
        clock.now += 1.0

    app = echo()
    answer = post(guard(app, limits=SLOW), [b"x"] * 100, tick=tick)
    assert answer.status == 408
    assert len(app.read) == 5


def test_a_large_upload_at_a_fair_rate_may_take_longer(guard, post, clock):
    def tick():
        clock.now += 1.0

    answer = post(guard(limits=SLOW), [b"x" * 20] * 50, tick=tick)
    assert (answer.status, answer.text) == (200, b"1000")


def test_the_applications_own_time_is_not_the_callers(guard, post, clock):
    async def slow_app(scope, receive, send):
        while (await receive())["more_body"]:
            clock.now += 100.0
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b""})

    assert post(guard(slow_app, limits=SLOW), [b"x"] * 9).status == 200


def test_waiting_for_the_client_to_leave_has_no_limit(guard, post, clock):
    async def streaming(scope, receive, send):
        assert (await receive())["more_body"] is False
        patience.append(1000.0)
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b""})

    def tick():
        clock.now += sum(patience)

    patience = []
    assert post(guard(streaming, limits=SLOW), [b"x"], tick=tick).status == 200


def test_a_client_that_leaves_while_sending_is_reported_to_the_application(guard, client, echo):
    app = echo()
    answer = client("/health", body=[]).http(guard(app))
    assert app.read == [{"type": "http.disconnect"}]
    assert answer.sent == []


@pytest.mark.parametrize("message", ["x" * 11, b"x" * 11, "é" * 6])
def test_a_websocket_message_beyond_the_limit_closes_the_socket(guard, client, echo, message):
    app = echo()
    answer = client(
        "/public",
        messages=["fine", message, "never"],
        extra={"extensions": {"websocket.http.response": {}}},
    ).websocket(guard(app, limits=SMALL))
    assert answer.kinds == ["websocket.accept", "websocket.send", "websocket.close"]
    assert answer.sent[-1]["code"] == 1009
    assert len(app.read) == 2
