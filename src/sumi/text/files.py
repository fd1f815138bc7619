"""What the tokenizer folders of Hugging Face have in common, read and written.

CheckpointError and OutputError, in one line with the path, for what cannot be read or written.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sumi.errors import CheckpointError, OutputError


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: copy the whole tokenizer folder") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}; copy it again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} should hold a JSON object: copy it again")
    return value


def read_settings(folder: Path) -> dict[str, Any]:
    """The folder's settings. Where its two files differ (padding in Stable Diffusion 2's) the one that transformers heeds counts."""
    config, special = (
        read_json(folder / name) if (folder / name).is_file() else {} for name in ("tokenizer_config.json", "special_tokens_map.json")
    )
    return config if "added_tokens_decoder" in config else config | special


def write(folder: Path, files: Mapping[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text + "\n", encoding="utf-8", newline="\n")
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}; choose another place or free some space") from error
