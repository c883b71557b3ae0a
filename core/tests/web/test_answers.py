"""What every answer carries: the error's shape, and the headers that protect a page."""

from __future__ import annotations

import json

import pytest

from llama_core.web import CONTENT_SECURITY_POLICY, error_body, secured


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "invalid_request_error"),
        (503, "server_error"),
    ],
)
def test_errors_are_nested_as_clients_expect(status, kind):
    error = {"message": "m", "type": kind, "param": "n", "code": "c"}
    assert json.loads(error_body(status, "c", "m", "n")) == {"error": error}


def test_a_refusal_is_json_of_the_length_it_says(guard, client):
    answer = client("/v1/models").http(guard())
    assert answer.header(b"content-type") == b"application/json"
    assert int(answer.header(b"content-length")) == len(answer.text)
    assert answer.header(b"x-content-type-options") == b"nosniff"


def test_a_page_gets_a_strict_policy_and_an_api_answer_does_not_need_one(guard, client, echo):
    page = client().http(guard(echo([(b"content-type", b"text/html; charset=utf-8")])))
    assert page.header(b"content-security-policy") == CONTENT_SECURITY_POLICY.encode()
    assert page.header(b"x-frame-options") == b"DENY"
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert "default-src 'none'" in CONTENT_SECURITY_POLICY
    plain = client().http(guard())
    assert plain.header(b"content-security-policy") is None
    assert plain.header(b"x-content-type-options") == b"nosniff"


def test_what_the_application_says_itself_stands():
    own = [(b"Content-Type", b"text/html"), (b"Content-Security-Policy", b"default-src 'self'")]
    policies = [v for k, v in secured(own) if k.lower() == b"content-security-policy"]
    assert policies == [b"default-src 'self'"]
