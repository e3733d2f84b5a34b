"""Usage tells the tokens that were cached: a long prompt asked twice. The model echoes."""

from common import MODEL, client

api = client()
long = [{"role": "user", "content": "Tell it again. " * 20}]


def cached():
    """Cached tokens of one more request for two tokens."""
    usage = api.chat.completions.create(model=MODEL, messages=long, max_tokens=2).usage
    assert usage.prompt_tokens > 300, usage
    return usage.prompt_tokens_details.cached_tokens


assert cached() == 0
again = cached()
assert again >= 256 and again % 16 == 0, again
