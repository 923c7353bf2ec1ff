"""Private names of huggingface_hub, known to work in 2.4."""

from typing import Any


def get(url: str, file: Any, begun: int, size: int | None) -> None:
    """Write what stands at an address of the hub into an open file, from byte `begun` on. size: what it has whole.

    Raises what `huggingface_hub.errors` has. The public `hf_hub_download` begins again after a break, and keeps the
    file in a cache.
    """
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # public, and not marked so

    http_get(url, file, resume_size=begun, headers=build_hf_headers(), expected_size=size)
