"""The same model in another form, whole or not at all; and the words that say what a file is."""

import io
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from small import SMALL, WORDS, small
from sumi.apps import files
from sumi.apps.cli import main
from sumi.models.zoo import ZOO
from sumi.store import dialects
from sumi.store.anything import open_model
from sumi.store.folder import write_model
from sumi.store.images import open_image
from sumi.store.model import Model
from sumi.store.single import write_single

Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model as a folder, a file, and a checkpoint of PyTorch that has averages and buffers beside it."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "folder", small())
    with pytest.MonkeyPatch.context() as published:  # the file of another would describe itself
        published.setitem(ZOO, "small", SMALL)
        write_single(folder / "file.safetensors", small())
    tensors = load_file(folder / "file.safetensors")
    averages = {dialects.ema_name(name): tensor + 1 for name, tensor in tensors.items() if name.startswith("model.diffusion_model.")}
    buffers = {"betas": torch.zeros(1000), "posterior_variance": torch.zeros(1000)}
    torch.save({"state_dict": tensors | averages | buffers, "global_step": 7}, folder / "trained.ckpt")
    return folder


@pytest.fixture
def run(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in an empty folder: exit status, lines on standard output, lines on standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(ZOO, "small", SMALL)
    monkeypatch.setattr("sumi.store.single.clip_tokenizer", lambda *_, **__: WORDS)

    def run(*words: object) -> tuple[int, list[str], list[str]]:
        status = main([*map(str, words)])
        captured = capsys.readouterr()
        return status, captured.out.splitlines(), captured.err.splitlines()

    return run


def here() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*") if not path.is_dir())


def equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) and ours[n].dtype == theirs[n].dtype for n in ours)


def same(ours: Model, theirs: Model) -> bool:
    return ours.spec == theirs.spec and all(equal(ours.states[part], state) for part, state in theirs.states.items())


# Convert


def test_a_folder_becomes_a_file_and_a_folder_again(run: Run, models: Path) -> None:
    size = f"{sum(tensor.nbytes for state in small().states.values() for tensor in state.values()) / 1e6:,.1f} MB written"
    assert run("convert", models / "folder", "a.safetensors") == (0, ["a.safetensors"], [size])
    assert Path("a.safetensors").read_bytes() == (models / "file.safetensors").read_bytes()
    assert run("convert", "a.safetensors", "b") == (0, ["b"], [size])
    assert here() == ["a.safetensors", *(f"b/{path.relative_to(models / 'folder')}" for path in sorted((models / "folder").rglob("*.*")))]
    assert same(open_model("b"), small())
    assert run("convert", "b", "c.safetensors", "-q") == (0, ["c.safetensors"], [])
    assert equal(load_file("c.safetensors"), load_file("a.safetensors"))


def test_a_checkpoint_becomes_safetensors_and_loses_nothing(run: Run, models: Path) -> None:
    assert run("convert", models / "trained.ckpt", "a.safetensors", "-q")[:2] == (0, ["a.safetensors"])
    theirs = torch.load(models / "trained.ckpt", weights_only=True)["state_dict"]
    assert equal(load_file("a.safetensors"), theirs)
    assert run("convert", models / "trained.ckpt", "b", "-q")[0] == run("convert", "b", "c.safetensors", "-q")[0] == 0
    assert equal(load_file("c.safetensors"), theirs)
    assert run("convert", "b", "d.safetensors", "-q", "--prune")[0] == 0
    assert load_file("d.safetensors").keys() == load_file(models / "file.safetensors").keys()


@pytest.mark.parametrize("out", ["a.safetensors", "a"])
def test_precision_is_that_which_is_asked_for(run: Run, models: Path, out: str) -> None:
    assert run("convert", models / "folder", out, "--precision", "float16", "-q") == (0, [out], [])
    halves = {part: {name: tensor.half() for name, tensor in state.items()} for part, state in small().states.items()}
    assert all(equal(open_model(out).states[part], state) for part, state in halves.items())


def test_one_part_alone_and_back(run: Run, models: Path) -> None:
    assert run("convert", models / "folder", "vae.safetensors", "--only", "vae", "-q") == (0, ["vae.safetensors"], [])
    vae = load_file("vae.safetensors")
    assert "decoder.mid.block_1.norm1.weight" in vae and len(vae) == len(small().states["vae"])
    save_file({f"first_stage_model.{name}": tensor + 1 for name, tensor in vae.items()}, "vae+1.safetensors")
    others = ["--with", "vae=vae+1.safetensors", "--with", f"unet={models}/folder"]
    assert run("convert", models / "file.safetensors", "b", *others, "-q")[0] == 0
    other, before = open_model("b").states, small().states
    assert equal(other["vae"], {name: tensor + 1 for name, tensor in before["vae"].items()}) and equal(other["unet"], before["unet"])


def test_a_unet_from_elsewhere_leaves_no_averages_of_the_old(run: Run, models: Path) -> None:
    words = ["convert", models / "trained.ckpt", "a.safetensors", "--no-ema", "--with", f"unet={models / 'file.safetensors'}", "-q"]
    assert run(*words)[0] == 0
    assert not any(name.startswith("model_ema.") for name in load_file("a.safetensors"))


def test_a_model_that_nobody_published_makes_the_same_picture_as_a_file(run: Run, tiny_model: Path) -> None:
    assert run("convert", tiny_model, "a.safetensors", "-q")[0] == 0
    for model, out in ((tiny_model, "1.png"), ("a.safetensors", "2.png")):
        assert run("a cat", "-m", model, "--seed", 7, "-o", out, "-q")[0] == 0
    assert open_image(Path("1.png")).tobytes() == open_image(Path("2.png")).tobytes()
    assert any(line.startswith("variant           tiny (") for line in run("inspect", "a.safetensors")[1])


@pytest.mark.parametrize("out", ["a.safetensors", "a", "vae.safetensors --only vae"])
def test_a_model_that_lacks_a_tensor_is_not_written(run: Run, models: Path, out: str) -> None:
    shutil.copytree(models / "folder", "in")
    weights = Path("in/unet/diffusion_pytorch_model.safetensors")
    save_file({name: tensor for name, tensor in load_file(weights).items() if name != "conv_in.weight"}, weights)
    before = here()
    status, printed, err = run("convert", "in", *out.split())
    assert (status, printed, len(err), here()) == (2, [], 1, before) and "1 missing: unet.conv_in.weight" in err[0]


def test_shards_and_variants(run: Run, models: Path) -> None:
    assert run("convert", models / "folder", "a", "--shard", "100KB", "--write-variant", "fp16", "-q") == (0, ["a"], [])
    shards = [path.name for path in Path("a/unet").iterdir()]
    assert "diffusion_pytorch_model.safetensors.index.fp16.json" in shards and len(shards) > 3
    assert all(re.fullmatch(r"config\.json|diffusion_pytorch_model\.(safetensors\.index\.fp16\.json|fp16-.*)", name) for name in shards)
    assert same(open_model("a", variant="fp16"), small())


def test_what_is_there_is_replaced_only_if_that_is_asked_for(run: Run, models: Path) -> None:
    for out in ("a.safetensors", "a"):
        assert run("convert", models / "folder", out, "-q")[0] == 0
        before = {path: (path.stat().st_ino, path.read_bytes()) for path in Path().rglob("*") if path.is_file()}
        assert run("convert", models / "folder", out, "--precision", "bfloat16") == (
            2,
            [],
            [f"sumi: {out} is there already: choose another name, or replace it with --overwrite"],
        )
        assert {path: (path.stat().st_ino, path.read_bytes()) for path in Path().rglob("*") if path.is_file()} == before
        assert run("convert", out, out, "--precision", "bfloat16", "--overwrite", "-q") == (0, [out], [])  # in place
        states = open_model(out).states
        assert all(torch.equal(states["unet"][name], tensor.bfloat16()) for name, tensor in small().states["unet"].items())
    assert not [name for name in here() if "tmp" in name]


def test_a_folder_of_other_things_is_never_replaced(run: Run, models: Path) -> None:
    Path("photos").mkdir()
    Path("photos/cat.png").touch()
    Path("a.safetensors").mkdir()
    for out in ("photos", ".", "a.safetensors"):
        status, printed, err = run("convert", models / "folder", out, "--overwrite")
        assert (status, printed, len(err)) == (2, [], 1)
    assert here() == ["photos/cat.png"] and Path("a.safetensors").is_dir()


BAD: list[tuple[list[str], str]] = [
    (["{models}/nowhere", "a"], "is missing: check the path"),
    (["{models}", "a"], "holds 2 files that may be models, file.safetensors and trained.ckpt: name one"),
    (["{models}/folder", "a.ckpt"], "weights are written as safetensors: name the file a.safetensors"),
    (["{models}/folder", "a.SAFETENSORS"], "weights are written as safetensors: name the file a.safetensors"),
    (["{models}/folder", "a", "--only", "vae"], "weights are written as safetensors: name the file a.safetensors"),
    (["{models}/folder", "a.safetensors", "--only", "hat"], "small has no part 'hat': it has unet, vae, text_encoder"),
    (["{models}/folder", "a", "--precision", "int8"], "there is no precision 'int8': use float32, bfloat16, float16"),
    (["{models}/folder", "a", "--shard", "5XB"], "--shard takes a size such as 5GB; got '5XB'"),
    (["{models}/folder", "a", "--shard", "0"], "--shard takes a size such as 5GB; got '0'"),
    (["{models}/folder", "a", "--shard", "inf"], "--shard takes a size such as 5GB; got 'inf'"),
    (["{models}/folder", "a.safetensors", "--shard", "5GB"], "--shard is for folders, and a.safetensors is a file: name a folder"),
    (["{models}/folder", "a.safetensors", "--write-variant", "fp16"], "--write-variant is for folders"),
    (["{models}/folder", "a", "--write-variant", "../x"], "--write-variant takes a word such as fp16; got '../x'"),
    (["{models}/folder", "a", "--with", "vae"], "--with takes PART=PATH, PART being one of unet, vae, text_encoder; got 'vae'"),
    (["{models}/folder", "a", "--with", "hat=x"], "--with takes PART=PATH, PART being one of unet, vae, text_encoder; got 'hat=x'"),
    (["{models}/folder", "a", "--with", "vae=../nowhere"], "nowhere is missing: check the path"),
    (["{models}/folder", "a", "--with", "vae={models}/folder/unet"], "holds no vae of small"),
    (["{models}/folder/unet", "a"], "holds no model of the latent diffusion family"),
    (["{models}/folder", "no/such/place/a"], "cannot write no/such/place/a: No such file or directory"),
    (["{models}/folder", "no/such/place/a.safetensors"], "cannot write no/such/place/a.safetensors: No such file or directory"),
    (["{models}/folder"], "the following arguments are required: OUT; see sumi convert --help"),
    (["{models}/folder", "a", "b"], "'b' is one word too many"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[f"{number}" for number in range(len(BAD))])
def test_what_is_wrong_is_said_on_one_line(run: Run, models: Path, words: list[str], message: str) -> None:
    status, out, err = run("convert", *(word.format(models=models) for word in words), "-q")
    assert (status, out, len(err)) == (2, [], 1) and err[0].startswith("sumi: ") and message in err[0]
    assert here() == []


def test_a_converted_model_makes_the_same_picture(run: Run, models: Path) -> None:
    assert run("convert", models / "folder", "a.safetensors", "-q")[0] == 0
    for model, out in ((models / "folder", "1.png"), ("a.safetensors", "2.png")):
        status, printed, err = run("a cat above a tree", "-m", model, "--seed", 7, "--steps", 2, "-o", out, "-q")
        assert (status, printed) == (0, [out]), err
    pixels = [open_image(Path(name)).tobytes() for name in ("1.png", "2.png")]
    assert pixels[0] == pixels[1] and len(set(pixels[0])) > 8


def test_ctrl_c_leaves_nothing(environment: dict[str, str], models: Path, tmp_path: Path) -> None:
    code = f"""
import sys, time
from sumi.apps import cli, files
def show(self, done, total):
    print("writing", flush=True)
    time.sleep(60)
files.Progress.show = show
sys.exit(cli.main(["convert", {str(models / "folder")!r}, "a"]))
"""
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # Where tests run in the background SIGINT may be ignored, which is inherited.
    listen = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, preexec_fn=listen, **streams) as process:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        assert list(tmp_path.iterdir()) != []
        process.send_signal(signal.SIGINT)
        printed, err = process.communicate()
    assert (process.returncode, printed, err) == (130, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("out", ["b.safetensors", "b"])
def test_memory_stays_far_below_the_size_of_the_model(run: Run, models: Path, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """96 MB, most of it in eight tensors that no part reads."""
    more = {f"logvar_{number}": torch.zeros(3 << 20) for number in range(8)}
    save_file(load_file(models / "file.safetensors") | more, "a.safetensors")
    del more

    def own() -> int:
        found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert found is not None
        return int(found[1]) << 10

    used: list[int] = []
    monkeypatch.setattr(files.Progress, "show", lambda *_: used.append(own()))
    before = own()
    assert run("convert", "a.safetensors", out)[:2] == (0, [out])
    assert max(*used, own()) - before < 32 << 20


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_is_one_line_that_goes_away(run: Run, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    assert run("convert", models / "folder", "a.safetensors")[:2] == (0, ["a.safetensors"])
    lines = terminal.getvalue().split("\r\x1b[K")
    assert re.fullmatch(r"(\d+) of \1 MB", lines[-2]) and lines[-1] == "" and "\n" not in terminal.getvalue()


# Inspect


def test_inspect_says_what_a_model_is(run: Run, models: Path) -> None:
    status, out, err = run("inspect", models / "trained.ckpt")
    told = {line[:16].strip(): line[18:] for line in out}
    assert (status, err, told["variant"]) == (0, [], "small (StableDiffusionPipeline)")
    assert told["file"].startswith(f"{models}/trained.ckpt (single file, pickle, ") and told["global_step"] == "7"
    assert told["prediction"] == "eps: its shape: every published model of it predicts the same"
    assert (told["latents"], told["pictures"]) == ("4 x 8 x 8", "16 x 16; sides are multiples of 4")
    assert told["prompt"] == f"10 tokens of {len(WORDS.vocab)}" and told["vae"].endswith(" parameters, float32")
    status, out, _ = run("inspect", models / "folder", "--json")
    report = json.loads("\n".join(out))
    assert status == 0 and report["variant"] == "small" and report["spec"]["size"] == [16, 16]


def test_inspect_says_what_something_else_is(run: Run) -> None:
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    says = {"ss_network_dim": "8", "ss_tag_frequency": "{}", "modelspec.title": "Ink"}
    save_file({f"{layer}.lora_down.weight": torch.zeros(8, 768), f"{layer}.lora_up.weight": torch.zeros(32, 8)}, "lora.safetensors", says)
    save_file({"clip_l": torch.zeros(3, 768), "clip_g": torch.zeros(3, 1280)}, "word.safetensors")
    _, out, _ = run("inspect", "lora.safetensors")
    assert [" ".join(line.split()) for line in out[1:]] == [
        "holds lora: 6,400 numbers in 2 tensors, float32",
        "ranks 8",
        "layers 1 of the unet, 0 of the text",
        "made for Stable Diffusion 1",
        "modelspec.title Ink",
        "ss_network_dim 8",
        "metadata 1 entries more, with --json",
    ]
    _, out, _ = run("inspect", "word.safetensors")
    assert [" ".join(line.split()) for line in out[2:]] == ["vectors 3 as clip_g, 3 as clip_l", "made for Stable Diffusion XL"]


def test_what_a_stranger_wrote_does_not_reach_the_terminal_as_it_is(run: Run) -> None:
    evil = "\x1b]0;title\x07\x9b2J\u202e\x7f\r\n" + "x" * 30_000
    says = {f"modelspec.{evil}": evil, **{f"ss_network_{number}": evil for number in range(100)}}
    save_file({"emb_params": torch.zeros(1, 768)}, "a\x1b[31m.safetensors", says)
    status, out, _ = run("inspect", "a\x1b[31m.safetensors")
    assert status == 0 and all(line.isprintable() and len(line) < 500 for line in out) and len(out) < 50
    status, out, _ = run("inspect", "a\x1b[31m.safetensors", "--json")
    assert status == 0 and all(line.isprintable() for line in out)
    assert json.loads("\n".join(out))["metadata"] == says


@pytest.mark.parametrize("words", [["nowhere.ckpt"], ["{models}"], ["/dev/null"], ["{models}/folder", "--prediction", "x"]])
def test_what_cannot_be_looked_at_is_said_on_one_line(run: Run, models: Path, words: list[str]) -> None:
    status, out, err = run("inspect", *(word.format(models=models) for word in words))
    assert (status, out, len(err)) == (2, [], 1) and err[0].startswith("sumi: ")
