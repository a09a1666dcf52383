"""Names and texts are embedded whole, or it is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maxi.errors import MaxiError
from maxi.models import hugging_face
from maxi.models.text_embeddings import embed_names, embed_names_with_phrases, embed_texts
from maxi.models.video_clip import VideoCLIP, load_model


@pytest.fixture(scope="module")
def model(tiny_clip: Path) -> VideoCLIP:
    """It reads 16 tokens of a text."""
    return load_model(f"clip:{tiny_clip}")


def test_names_that_differ_beyond_the_context_are_refused(model: VideoCLIP) -> None:
    names = ["riding horse " * 9 + end for end in ("slowly", "fast")]
    with pytest.raises(MaxiError, match=r"reads the names 'riding.*alike.*at most 16 tokens"):
        embed_names(model, names)
    with pytest.raises(MaxiError, match="alike, since it ignores case"):
        embed_names(model, ["Riding", "riding"])


def test_a_text_that_is_cut_is_told_once(
    model: VideoCLIP, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hugging_face, "_TOLD", set())
    for _ in range(2):
        embed_texts(model, ["riding horse", "playing guitar " * 9])
    assert caplog.text.count("reads only the first 16 tokens of 1 text") == 1


def test_two_names_may_share_a_phrase(model: VideoCLIP) -> None:
    phrases = {"riding": ["person riding"], "playing": ["person riding", "Person riding"]}
    z_l = embed_names_with_phrases(model, ["riding", "playing"], phrases, "{}")
    assert np.isfinite(z_l).all()
