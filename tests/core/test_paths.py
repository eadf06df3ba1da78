import pytest

from solar.core.paths import ENDPOINTS, locate

GET = ("GET", "HEAD")


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=lambda endpoint: endpoint.name)
@pytest.mark.parametrize("spelling", ["{}", "/v1{}", "/v1/v1{}", "/v1{}/", "//v1/{}", "/v1//{}//"])
def test_an_endpoint_is_found_however_v1_and_slashes_are_written(endpoint, spelling):
    found = locate(spelling.format(endpoint.upstream))

    assert found == ("inference", endpoint, None, ("POST",))


def test_serves_these_endpoints():
    assert {endpoint.name: path for path, endpoint in ENDPOINTS.items()} == {
        "chat": "/chat/completions",
        "completions": "/completions",
        "embeddings": "/embeddings",
        "responses": "/responses",
        "messages": "/messages",
        "count_tokens": "/messages/count_tokens",
        "rerank": "/rerank",
        "classify": "/classify",
        "moderations": "/moderations",
        "transcriptions": "/audio/transcriptions",
        "translations": "/audio/translations",
        "speech": "/audio/speech",
        "image_generations": "/images/generations",
        "image_edits": "/images/edits",
        "image_variations": "/images/variations",
        "tokenize": "/tokenize",
        "detokenize": "/detokenize",
    }


def test_only_the_tokenizers_stand_outside_v1():
    assert [e.name for e in ENDPOINTS.values() if not e.versioned] == ["tokenize", "detokenize"]


def test_only_forms_with_files_may_be_multipart():
    named = [e.name for e in ENDPOINTS.values() if e.multipart]

    assert named == ["transcriptions", "translations", "image_edits", "image_variations"]


def test_anthropic_paths_speak_the_messages_dialect():
    assert [e.name for e in ENDPOINTS.values() if e.wire == "messages"] == ["messages", "count_tokens"]


@pytest.mark.parametrize("path", ["/rerank", "/reranking", "/v1/rerank", "/v1/reranking", "/v1/v1/reranking/"])
def test_rerank_has_four_spellings_and_one_upstream(path):
    assert locate(path).endpoint is ENDPOINTS["/rerank"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/models", "models"),
        ("/models", "models"),
        ("/v1/models/", "models"),
        ("//models", "models"),
        ("/health", "health"),
        ("/v1/health", "health"),
        ("/health/", "health"),
        ("/health/ready", "ready"),
        ("/v1/health//ready", "ready"),
        ("/metrics", "metrics"),
        ("/v1/metrics", "metrics"),
    ],
)
def test_what_is_read_allows_get_and_head(path, kind):
    assert locate(path) == (kind, None, None, GET)


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/models/gpt-oss:20b", "gpt-oss:20b"),
        ("/models/gpt-oss:20b", "gpt-oss:20b"),
        ("/v1/models/meta-llama/Llama-3.3-70B-Instruct", "meta-llama/Llama-3.3-70B-Instruct"),
        ("/v1//models//a/b:c/", "a/b:c"),
        ("/v1/models/v1", "v1"),
        ("/v1/models/models/x", "models/x"),
        ("/v1/models/my model", "my model"),
        ("/v1/models/a...b", "a...b"),
        ("/v1/models/modèle", "modèle"),
    ],
)
def test_a_model_id_may_hold_slashes_and_colons(path, model):
    assert locate(path) == ("model", None, model, GET)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/v1",
        "*",
        "v1/chat/completions",
        "/nothing",
        "/v1/chat",
        "/v1/v1/v1/chat/completions",
        "/v2/rerank",
        "/openai/v1/chat/completions",
        "/V1/chat/completions",
        "/health/live",
        "/v1/chat/completions/x",
        "/v1/./models",
        "/v1/../v1/models",
        "/v1/models/..",
        "/v1/models/a/../b",
        "/v1/models/*",
        "/v1/models;x=1",
        "/v1/models/a;b",
        "/v1/models#x",
        "/v1/models?x",
        "/v1\\models",
        "/v1/models\n",
        "/v1/models/\x00",
        "/v1/models/\x7f",
        "/v1/models/a\xa0b",
        "/v1/models\u2028",
        "http://host/v1/models",
        "//host/v1/models",
    ],
)
def test_anything_else_is_unknown_and_allows_no_method(path):
    assert locate(path) == ("unknown", None, None, ())
