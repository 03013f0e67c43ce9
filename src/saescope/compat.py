"""Private parts of other libraries; every use of one stands here, with a test in tests/test_compat.py.

A room that may import nothing of ours has a `compat.py` of its own: `stats/compat.py`. Each library is
imported where it is needed: a report must not import torch.
"""


def hub_http_error() -> type[Exception]:
    """The base error of the Hub client's HTTP library: httpx or httpx2, depending on the client's version."""
    from huggingface_hub.errors import HfHubHTTPError

    base = HfHubHTTPError.__bases__[0]
    assert issubclass(base, Exception)
    return base
