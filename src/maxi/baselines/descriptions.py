"""Classes by description, as in ER-ZSAR (Chen and Huang, ICCV 2021) and JigsawNet (Qian et al., ECCV 2022).

Both replace a name by a text that says what one sees. Here the texts are the phrases of the run's expander, and the
encoders are CLIP's, so that this shows what descriptions add on the same harness, not what those systems score.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from maxi.baselines.baseline import Baseline
from maxi.text.clean import with_name


class Descriptions(Baseline):
    """Both encoders learn; a name is the mean of its prompt and of its phrases', in training and at test."""

    def encode_names(self, names: Sequence[str]) -> Tensor:
        """Embed names with their phrases: (K, D), unit norm."""
        return self.encode_texts(
            [
                [with_name(self.prompts[0], text) for text in (name, *self.phrases.get(name, ()))]
                for name in names
            ]
        )
