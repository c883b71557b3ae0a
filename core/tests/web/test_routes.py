"""The table itself: overlaps, mounts, strange paths and rules that make no sense."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_core.web import ANY, WEBSOCKET, RefusedError, Routes, Rule, below


def test_overlapping_rules_ask_for_all_their_scopes_in_any_order():
    rules = [
        Rule("GET", "/{rest:path}", "public"),
        Rule("GET", "/v1/{name}", "infer"),
        Rule("GET", "/v1/stats", "admin"),
    ]
    for routes in (Routes(rules), Routes(reversed(rules))):
        assert routes.scopes("GET", "/index.html") == set()
        assert routes.scopes("GET", "/v1/x") == {"infer"}
        assert routes.scopes("GET", "/v1/stats") == {"infer", "admin"}


@pytest.mark.parametrize("base", ["/dash", "/dash/"])
def test_a_mount_covers_all_below_it_and_nothing_beside_it(base):
    routes = Routes(below(base, "train"))
    for path in ("/dash", "/dash/", "/dash/a/b.js"):
        for method in ("GET", "POST", "HEAD", "DELETE", "WEBSOCKET"):
            assert routes.scopes(method, path) == {"train"}
    for path in ("/", "/dashboard", "/x/dash"):
        with pytest.raises(RefusedError):
            routes.scopes("GET", path)


@pytest.mark.parametrize(
    "path",
    [
        "/dash/../v1",
        "/dash/..",
        "/dash/./x",
        "/dash//x",
        "//dash",
        "/dash/a\\b",
        "/dash/\0",
        "/dash/\n",
    ],
)
def test_a_path_that_can_be_read_in_two_ways_does_not_exist(path):
    with pytest.raises(RefusedError) as refused:
        Routes(below("/dash", "public")).scopes("GET", path)
    assert refused.value.status == 404


def test_one_segment_is_one_segment():
    routes = Routes([Rule("GET", "/a/{x}/c.d", "public")])
    assert routes.scopes("GET", "/a/b/c.d") == set()
    for path in ("/a/b/b/c.d", "/a//c.d", "/a/b/cxd", "/a/b/c.d/", "/a/b/c.d\n"):
        with pytest.raises(RefusedError):
            routes.scopes("GET", path)


def test_any_method_is_no_websocket():
    with pytest.raises(RefusedError) as refused:
        Routes([Rule(ANY, "/a", "public")]).scopes(WEBSOCKET, "/a")
    assert refused.value.status == 404


def test_a_wrong_method_is_told_the_right_ones():
    routes = Routes([Rule("GET", "/a", "public"), Rule("POST", "/a", "admin")])
    with pytest.raises(RefusedError) as refused:
        routes.scopes("PUT", "/a")
    assert refused.value.status == 405
    assert refused.value.headers == [(b"allow", b"GET, HEAD, POST")]


@pytest.mark.parametrize(
    ("method", "path", "access"),
    [
        ("GET", "health", "public"),
        ("GET", "/a/{x:int}", "public"),
        ("GET", "/a/{x:path}/b", "public"),
        ("GET", "/{", "public"),
        ("get", "/a", "public"),
        ("GET", "/a", "everyone"),
        ("GET", "/a", None),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_when_it_is_written(method, path, access):
    with pytest.raises(ValueError):
        Rule(method, path, access)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.text(max_size=8), st.text(max_size=40))
def test_any_path_is_answered_or_refused(method, path):
    routes = Routes([Rule("POST", "/a/{b}", "admin"), Rule("GET", "/c/{d:path}", "admin")])
    try:
        scopes = routes.scopes(method, path)
    except RefusedError as refused:
        scopes = refused.status
    assert scopes in ({"admin"}, 404, 405)
