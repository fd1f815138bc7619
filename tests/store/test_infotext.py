"""The text of A1111: against a published reader, A1111's own rules, and itself."""

import json
import re
from collections.abc import Iterator
from itertools import islice, pairwise
from random import Random

import pytest
from PIL import Image
from sd_parsers import ParserManager

from sumi.store.images import read_png_text, save_png
from sumi.store.infotext import Infotext, read, write

FIELDS = {"Steps": 20, "Sampler": "DPM++ 2M", "Schedule type": "Karras", "CFG scale": 7.0, "Seed": 2**64 - 1, "Size": "512x768"}
SPELLED = {name: str(value).removesuffix(".0") for name, value in FIELDS.items()}

# Whatever people type, and what the text means something by.
PIECES = [
    "Negative prompt:",
    "Steps: 20",
    "Steps: 1, Sampler: a, Seed: 2",
    "\n",
    ",",
    ":",
    '"',
    "\\",
    " ",
    "\t",
    "\u2003",
    "\r",
    "é",
    "日本",
    "😀",
]
PIECES += ["a cat", "(b:1.2)", "<lora:x:1>", "512x512", "Prompt: x", "{", "\x00", "\x1c", "[a:b:0.5]", "AND", "-", "/"]


def texts(seed: int) -> Iterator[str]:
    """Any number of them, each of a few pieces or of any characters at all but halves of pairs."""
    random = Random(seed)
    while True:
        count = random.choice((0, 1, 2, 3, 5, 8))
        yield "".join(
            random.choice(PIECES) if random.random() < 0.8 else chr(random.choice((random.randrange(0xD800), 0x1F600)))
            for _ in range(count)
        )


def published(text: str) -> tuple[str, str, dict[str, str]]:
    """A1111's rules (`parse_generation_parameters`), as far as prompts and fields go."""
    prompt, negative, fields, away = [], [], {}, False
    *lines, last = text.strip().split("\n")
    found = re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', last)
    if len(found) < 3:
        lines, found = [*lines, last], []
    for line in (line.strip() for line in lines):
        away = away or line.startswith("Negative prompt:")
        (negative if away else prompt).append(line.removeprefix("Negative prompt:").strip() if away else line)
    for key, value in found:
        if value:  # A1111 stumbles over an empty one, and goes on
            quoted = value[0] == value[-1] == '"'
            try:
                fields[key] = json.loads(value) if quoted else value
            except ValueError:
                fields[key] = value
    return fields.pop("Prompt", "\n".join(prompt)), fields.pop("Negative prompt", "\n".join(negative)), fields


def test_every_prompt_comes_back_exactly_here_and_in_a1111():
    named = [("a\nNegative prompt: b", "c"), ("", "Negative prompt: c"), (" a ", ""), ("Steps: 1, Sampler: a, Seed: 2", "Steps: 20")]
    for prompt, negative in [*named, *islice(pairwise(texts(0)), 2000)]:
        text = write(prompt, negative, FIELDS)
        assert read(text) == Infotext(prompt, negative, SPELLED)
        assert published(text) == (prompt, negative, SPELLED)


def test_a_prompt_that_a1111_reads_back_anyway_gets_no_field():
    for prompt in ('a, b: "c"\n(d:1.2)', "Steps: 20, Sampler: a, Seed: 2", "no Negative prompt: here", ""):
        assert write(prompt, "e", FIELDS) == f"{prompt}\nNegative prompt: e\n".lstrip() + write("", "", FIELDS)


def test_every_value_comes_back_as_text():
    given = texts(1)
    for values in zip(given, given, given, [0, -1, 2**64 - 1, 0.1, 7.0, 1e-30, 1e22, float("inf")] * 50, strict=False):
        fields = dict(zip(("Model", "Eta", "Lora hashes", "a-b/c d"), values, strict=True))
        found = read(write("a cat", "", fields))
        assert (found.prompt, found.negative) == ("a cat", "")
        assert {name: found.fields[name] for name in list(fields)[:3]} == dict(list(fields.items())[:3])
        assert type(values[3])(found.fields["a-b/c d"]) == values[3]


def test_reading_any_text_gives_what_a1111_reads():
    for text in islice(texts(2), 2000):
        found = read(text)
        prompt, negative, fields = published(text)
        assert (found.prompt, found.negative) == (prompt, negative)
        assert {name: value for name, value in found.fields.items() if value} == {name: value for name, value in fields.items() if value}


def test_the_text_is_that_of_a1111():
    """Layout and order as in `create_infotext`; the example of A1111's own documentation of the format."""
    text = (
        "girl with an artist's beret, determined, ((eyeshadow))\n"
        "Negative prompt: ugly, fat, [blurry]\n"
        "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 965400086, Size: 512x512, Model hash: 45dee52b"
    )
    found = read(text)
    assert found.prompt == "girl with an artist's beret, determined, ((eyeshadow))"
    assert found.negative == "ugly, fat, [blurry]"
    assert list(found.fields.items())[:3] == [("Steps", "20"), ("Sampler", "Euler a"), ("CFG scale", "7")]
    shuffled = dict(sorted(found.fields.items(), reverse=True))
    assert write(found.prompt, found.negative, shuffled) == text


def test_fields_of_ones_own_stand_between_the_known_ones_and_those_that_end_the_line():
    line = write("", "", {"User": "me", "Eta": 0.5, "Version": "v1", "Seed": 0, "Emphasis": "No norm", "Tiling": None, "Steps": 3})
    assert line == "Steps: 3, Seed: 0, Eta: 0.5, Emphasis: No norm, Version: v1, User: me"


@pytest.mark.parametrize("name", ["a", "", "a,b", "a: b", " ab", "ab ", "-ab", "Prompt", "Negative prompt", "a\nb"])
def test_a_name_that_would_not_be_read_back_is_refused(name):
    with pytest.raises(ValueError, match="cannot be the name of a field"):
        write("a cat", "", {**FIELDS, name: 1})


def test_too_few_fields_to_be_found_are_refused():
    with pytest.raises(ValueError, match="needs 3 fields or more; got Steps, Seed"):
        write("a cat", "", {"Steps": 20, "Seed": 1, "Model": None})


PROMPTS = [
    ("a red circle", "blurry"),
    ('a cat, (sitting:1.2), "quoted"\non two lines', "bad, ugly: very\nworse"),
    ("Steps: 20", ""),
    ("日本 😀", "é"),
]


@pytest.mark.parametrize(("prompt", "negative"), PROMPTS)
def test_a_published_reader_finds_the_same_in_a_png(tmp_path, prompt, negative):
    path = tmp_path / "a.png"
    fields = {**FIELDS, "Model": "sumi-shapes", "Model hash": "0123456789"}
    text = write(prompt, negative, fields)
    save_png(Image.new("RGB", (4, 4)), path, {"parameters": text})
    assert read_png_text(path)["parameters"] == text
    found = ParserManager().parse(path)
    assert found is not None
    (sampler,) = found.samplers
    assert [p.value for p in sampler.prompts] == [prompt]
    assert [p.value for p in sampler.negative_prompts] == ([negative] if negative else [])
    assert sampler.name == "DPM++ 2M"
    assert {key: sampler.parameters[key] for key in ("seed", "steps", "cfg_scale", "scheduler")} == {
        "seed": str(2**64 - 1),
        "steps": "20",
        "cfg_scale": "7",
        "scheduler": "Karras",
    }
    assert found.metadata["Size"] == "512x768"
    assert sampler.model is not None and (sampler.model.name, sampler.model.hash) == ("sumi-shapes", "0123456789")


def test_a_prompt_that_needed_more_does_not_lead_a_reader_that_splits_at_commas_astray(tmp_path):
    path = tmp_path / "a.png"
    save_png(Image.new("RGB", (4, 4)), path, {"parameters": write(" a, Steps: 3, Seed: 4 ", "", FIELDS)})
    found = ParserManager().parse(path)
    assert found is not None
    assert (found.samplers[0].parameters["steps"], found.samplers[0].parameters["seed"]) == ("20", str(2**64 - 1))


@pytest.mark.parametrize("hostile", ["a" * 10**6, "a " * 500_000, "ab: " * 250_000, 'ab: "' * 200_000, "-" * 10**6, 'ab: "' + "\\" * 10**6])
def test_a_long_text_is_read_in_one_go(hostile):
    """A search that starts again at every letter, as A1111's does, would take hours."""
    assert read(hostile) == Infotext(hostile.strip(), "", {})
