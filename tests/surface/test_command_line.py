"""Commands and options that scripts rely on. To change a list here is to change what people have written: say so in CHANGELOG.md."""

import re

import pytest

from sumi.apps.cli import COMMANDS, main

OPTIONS = {
    "": """
        --attention --clip-skip --count --depth --device --download --emphasis --eta --exact --first --guidance
        --guidance-interval --guidance-method --guidance-rescale --height --help --hires --hires-steps
        --hires-strength --image --image-guidance --label --level --like --low-res --map --mask --mask-blur
        --mask-grow --mask-invert --mimic --model --negative --no-ema --noise --noise-multiplier --options --outpaint
        --output --pag --precision --prediction --quiet --record --revision --sag --sampler --seamless --seed --sigmas
        --skip --spacing --steps --strength --threshold --tile --tile-overlap --variant --variation --variation-seed
        --version --width --words -h -m -n -o -q
    """,
    "again": """
        --attention --clip-skip --depth --device --download --emphasis --eta --exact --guidance --guidance-interval
        --guidance-method --guidance-rescale --height --help --hires --hires-steps --hires-strength --image
        --image-guidance --label --level --like --low-res --map --mask --mask-blur --mask-grow --mask-invert --mimic
        --model --negative --no-ema --noise --noise-multiplier --options --outpaint --output --pag --precision
        --prediction --prompt --quiet --record --revision --sag --sampler --seamless --seed --sigmas --skip --spacing
        --steps --strength --threshold --tile --tile-overlap --variant --variation --variation-seed --width --words -h
        -m -o -q
    """,
    "convert": """
        --download --help --no-ema --only --overwrite --precision --prediction --prune --quiet --revision --shard
        --variant --with --write-variant -h -q
    """,
    "eval": """
        --count --device --download --guidance --help --json --kind --model --no-ema --precision --prediction
        --revision --seed --steps --task --variant --vocabulary -h -m
    """,
    "explain": """
        --at --attention --by --clip-skip --count --depth --device --diff --download --emphasis --eta --exact --fast --first
        --frames --guidance --guidance-interval --guidance-method --guidance-rescale --height --help --hires
        --hires-steps --hires-strength --image --image-guidance --label --layers --level --like --low-res --map --mask
        --mask-blur --mask-grow --mask-invert --mimic --model --negative --no-ema --noise --noise-multiplier --number
        --options --outpaint --output --pag --precision --prediction --quiet --record --replay --revision --sag
        --sampler --seamless --seconds --seed --sigmas --skip --spacing --steps --strength --threshold --tile
        --tile-overlap --to-seed --variant --variation --variation-seed --view --width -h -m -n -o -q
    """,
    "grid": """
        --clip-skip --depth --device --download --emphasis --eta --exact --first --guidance --guidance-interval
        --guidance-method --guidance-rescale --height --help --hires --hires-steps --hires-strength --image
        --image-guidance --label --level --like --low-res --map --mask --mask-blur --mask-grow --mask-invert --mimic
        --model --negative --no-ema --noise --noise-multiplier --options --outpaint --output --pag --pictures
        --precision --prediction --quiet --revision --sag --sampler --seamless --seed --sigmas --skip --spacing
        --steps --strength --threshold --tile --tile-overlap --variant --variation --variation-seed --width -h -m -o
        -q -x -y -z
    """,
    "inspect": "--help --json --prediction --revision -h",
    "samplers": "--help -h",
    "serve": """
        --batch --device --folder --help --host --host-name --log-prompts --memory --models --open --port --precision
        --quiet -h -m -q
    """,
    "train": "--device --fresh --help --minutes --out -h",
}


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def test_commands() -> None:
    assert sorted(["", *COMMANDS]) == sorted(OPTIONS)


@pytest.mark.parametrize("command", OPTIONS)
def test_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    entries = re.findall(r"^  (-.*?)(?:  |$)", capsys.readouterr().out, re.MULTILINE)
    assert sorted(re.findall(r"(?<!\S)--?[a-z][a-z-]*", " ".join(entries))) == OPTIONS[command].split()


def test_every_option_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    for command in OPTIONS:
        main([*command.split(), "--help"])
        for entry in re.split(r"\n(?=  -)", capsys.readouterr().out.partition("options:\n")[2]):
            assert re.search(r"(  |\n {10,})\S+ \S+", entry), entry
