import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solar.core.size import size_of

SIZES = {
    "gpt-oss:120b": 120,
    "gpt-oss:20b": 20,
    "gpt-oss-20b": 20,
    "gpt-oss:120b-cloud": 120,
    "mixtral:8x7b": 56,
    "mixtral:8X7b": 56,
    "m:8 x 7 b": 56,
    "Mixtral-8x7B": 56,
    "mixtral:8x7b-instruct-v0.1-q4_K_M": 56,
    "Phi-3.5-MoE-16x3.8B": 60.8,
    "tiny:13m": 0.013,
    "SmolLM2-135M-Instruct": 0.135,
    "m2m100_418M": 0.418,
    "phi-2:2.7b": 2.7,
    "70b": 70,
    "1.1b": 1.1,
    "a:b:7B": 7,
    "m:.5b": 0.5,
    "m:30b-a3b": 30,
    "Qwen3-30B-A3B": 30,
    "m:7B-instruct": 7,
    "llama-3:8b-q4": 8,
    "llama-70b": 70,
    "Llama_3_8B": 8,
    "llama.7b.q4_0.gguf": 7,
    "meta-llama/Llama-3.3-70B-Instruct": 70,
    "qwen2.5-coder:1.5b-instruct": 1.5,
    "Qwen1.5-0.5B": 0.5,
    "qwen1_5-1_8b-chat-q4_0.gguf": 1.8,
    "gemma3n:e4b": 4,
    "gemma-3n-E2B-it": 2,
    "deepseek-r1-distill-qwen-32b": 32,
    "vicuna-v1.5-7B": 7,
    "Qwen2.5-14B-Instruct-1M": 14,
    "TinyLlama-1.1B-step-1431k-3T": 1.1,
    "hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M": 3,
    "llama3-8b:latest": 8,
    "router-7b:70b": 70,
    "kimi-k2:1t": 1000,
    "Yi-34B-200k": 34,
}

NO_SIZES = [
    "",
    "m:",
    "m:latest",
    "gpt-4o-mini",
    "gpt-4.1-mini",
    "o3 mini",
    "text-embedding-3-small",
    "bge-m3",
    "llama:q4_0",
    "llama:Q4_K_M",
    "llama-4bit",
    "llama-fp8",
    "deepseek-v3",
    "phi-3-mini-128k",
    "needs-16GB",
    "needs 24 GB",
    "model-a3b",
    "release-2024b",
    "m:0b",
    "m:0.0b",
    "m:12345b",
    "model-7bn",
]


@pytest.mark.parametrize(("name", "billions"), SIZES.items())
def test_reads_the_size_from_the_name(name, billions):
    assert size_of(name) == pytest.approx(billions)


@pytest.mark.parametrize("name", NO_SIZES)
def test_what_is_no_size_is_unknown(name):
    assert size_of(name) is None


@given(st.text(alphabet="0123456789bmtxae._-: ", max_size=40))
@settings(deadline=None, max_examples=200)
def test_a_size_is_never_zero(name):
    size = size_of(name)

    assert size is None or size > 0
