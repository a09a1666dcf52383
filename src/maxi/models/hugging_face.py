"""Find models in Hugging Face layout in a folder, in the cache or on the hub, and read them without running their code.

Weights are in safetensors. Older models of the hub have only a `.bin`, which is read as tensors alone: no code in it
is ever executed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from maxi.errors import MISTAKES, MaxiError, first_line, some
from maxi.files import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

WEIGHTS = ["model*.safetensors", "model.safetensors.index.json"]
BIN_WEIGHTS = ["pytorch_model*.bin", "pytorch_model.bin.index.json"]
CONFIG_FILES = [
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
]
LIMITS = {"layers": 1000, "hidden_size": 2**16, "intermediate_size": 2**19, "vocab_size": 2**21}
"""The largest values of sizes in a configuration, by parts of their names; larger ones would only fill the memory."""
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model")
HUB_TIMEOUT = 10  # seconds until the first answer

SAFELY: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""The options with which transformers reads any folder; weights are also read with `weights_only=True`."""


def locate(spec: str, *, otherwise: str) -> Path:
    """Return the folder of `KIND:FOLDER`, or of `KIND:ID[@REVISION]` in the cache, where it is downloaded if missing.

    Raises MaxiError when there is no such model or it cannot be downloaded; `otherwise` is an option that needs no
    download, which the message names.
    """
    name = spec.partition(":")[2]
    folder = Path(name).expanduser()
    return folder if folder.is_dir() else _fetch(name, spec, otherwise)


def _fetch(name: str, where: str, otherwise: str) -> Path:
    from huggingface_hub import errors, snapshot_download

    repository, _, revision = name.partition("@")

    def snapshot(patterns: list[str], *, local_files_only: bool) -> Path:
        return Path(
            snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=patterns,
                etag_timeout=HUB_TIMEOUT,
                local_files_only=local_files_only,
            )
        )

    try:
        folder = snapshot(CONFIG_FILES + WEIGHTS, local_files_only=True)
        if (folder / "config.json").is_file() and _has_weights(folder):
            return folder
    except (errors.LocalEntryNotFoundError, errors.HFValidationError):
        pass
    try:
        folder = snapshot(CONFIG_FILES + WEIGHTS, local_files_only=False)
        if not _has_weights(folder):
            folder = snapshot(BIN_WEIGHTS, local_files_only=False)
        return folder
    except errors.HFValidationError as error:
        raise MaxiError(f"{where}: no such folder, and not the id of a model of the hub") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise MaxiError(
            f"{where} is not a local folder, and the hub has no such public model or revision;"
            " check the spelling, or log in if access to it is restricted"
        ) from error
    except MISTAKES:
        raise
    except (
        Exception
    ) as error:  # httpx, the hub or the disk: all mean that the model cannot be downloaded
        raise MaxiError(
            f"{where} is neither a local folder nor in the cache, and the hub cannot be"
            f" reached; pass a local folder, or use `{otherwise}`"
        ) from error


def _has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors")) or any(folder.glob("pytorch_model*.bin"))


def files_of(folder: Path) -> list[Path]:
    """Return all files of a model's folder on which its answers depend, in a fixed order."""
    return sorted(
        path
        for pattern in (*CONFIG_FILES, *WEIGHTS, *BIN_WEIGHTS)
        for path in folder.glob(pattern)
        if path.is_file()
    )


def model_type(folder: Path, where: str) -> str:
    """Return the type of model that config.json states; MaxiError when there is no such file or it is damaged."""
    config = folder / "config.json"
    if not config.is_file():
        raise MaxiError(
            f"{where} is not a model in Hugging Face layout: it has no config.json; pass another folder"
        )
    settings = read_json(config)
    if not isinstance(settings, dict):
        raise MaxiError(
            f"{where}: config.json is not a JSON object; copy or download the folder again"
        )
    _check_size(settings, where)
    return str(settings.get("model_type"))


def _check_size(settings: dict[str, Any], where: str) -> None:
    """Raise MaxiError when a configuration asks for more blocks or wider ones than any model has."""
    for name, value in settings.items():
        if isinstance(value, dict):
            _check_size(value, where)
        limit = next((n for part, n in LIMITS.items() if part in name), None)
        if limit and isinstance(value, (int, float)) and not value <= limit:
            raise MaxiError(
                f"{where}: config.json says {name} is {value}, and at most {limit} can be; copy the model again"
            )


def check_files(folder: Path, where: str) -> None:
    """Raise MaxiError when a folder has no weights or no tokenizer."""
    if not _has_weights(folder):
        raise MaxiError(
            f"{where} has no model.safetensors; copy or download the whole folder, or name a"
            f" revision that has it (`{where.partition(':')[0]}:ID@REVISION`)"
        )
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise MaxiError(
            f"{where} has no tokenizer (tokenizer.json, vocab.txt, spiece.model, or vocab.json and merges.txt);"
            " copy it from the original model"
        )


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep the reports and progress bars of transformers off the terminal; what matters is raised as MaxiError."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Silence transformers while a model is read, and turn any error into a MaxiError that names the model."""
    try:
        with quiet_transformers():
            yield
    except MaxiError:
        raise
    except UnpicklingError as error:  # torch's own message advises to run the file's code
        raise MaxiError(
            f"{where} cannot be read (it holds something else than tensors, which is never"
            " executed); pass a model with model.safetensors"
        ) from error
    except (
        Exception
    ) as error:  # for a damaged folder, three libraries raise a dozen unrelated types
        raise MaxiError(
            f"{where} cannot be read ({first_line(error)}); copy or download the folder again,"
            " and report this if it is whole"
        ) from error


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Read a folder's tokenizer, and give it a padding token if it has none."""
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, **SAFELY)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


_TOLD: set[str] = set()  # texts of which the user knows that they are cut


def tell_cut(texts: Sequence[str], encodings: Sequence[Any] | None, limit: int) -> None:
    """Warn once of each text that is longer than the `limit` of a model in tokens, and so is cut there.

    `encodings` are what the tokenizer returned for the texts; tokenizers in Python return None, and no warning comes.
    """
    cut = [t for t, e in zip(texts, encodings or (), strict=False) if e.overflowing]
    new = [text for text in dict.fromkeys(cut) if text not in _TOLD]
    if new and len(_TOLD) < 1000:
        _TOLD.update(new)
        logger.warning(
            "the model reads only the first %d tokens of %d text%s, such as %r; shorten it if the end matters",
            limit,
            len(new),
            "s" if len(new) > 1 else "",
            new[0][:100],
        )


def refuse_whole_numbers(folder: Path, where: str) -> None:
    """Raise MaxiError when a weight in safetensors is stored as whole numbers, which transformers takes for weights."""
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (it is no dictionary)
                dtype = tensors.get_slice(name).get_dtype()
                if not dtype.startswith(("F", "BF")) and not name.endswith("position_ids"):
                    raise MaxiError(
                        f"{where}: {name} holds whole numbers ({dtype}), which are no weights; copy the model again"
                    )


def check_report(report: dict[str, Any], where: str) -> None:
    """Raise MaxiError when transformers reports missing or unexpected weights."""
    # Files written before transformers 4.31 also hold the position numbers, which are not weights.
    unexpected = sorted(k for k in report["unexpected_keys"] if not k.endswith(".position_ids"))
    missing = sorted(report["missing_keys"])
    faults = [f"missing {some(missing)}"] if missing else []
    faults += [f"unexpected {some(unexpected)}"] if unexpected else []
    if faults:
        raise MaxiError(
            f"{where}: the weights do not fit config.json ({'; '.join(faults)});"
            " copy or download the folder again"
        )


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, size: int, where: str) -> None:
    """Raise MaxiError when a tokenizer has more tokens than the model has embeddings for."""
    if len(tokenizer) > size:
        raise MaxiError(
            f"{where}: the tokenizer has {len(tokenizer)} tokens, but the model has embeddings for"
            f" {size}; copy the tokenizer of the same model"
        )
