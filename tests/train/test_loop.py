"""The loop on a task of one small linear layer."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sumi.errors import RecipeError
from sumi.store.checkpoint import load
from sumi.train.ema import Weights
from sumi.train.loop import Training, train


class Line:
    """Fit y = 2x + 1."""

    def __init__(self, poison: int | None = None) -> None:
        torch.manual_seed(0)
        self.layer = nn.Linear(1, 1)
        self.modules: dict[str, nn.Module] = {"layer": self.layer}
        self.rates: dict[str, float] = {}
        self.poison = poison
        self.exported: Path | None = None
        self.seen: list[float] = []

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        x = torch.from_numpy(rng.standard_normal((64, 1), np.float32))
        self.seen.append(float(x.sum()))
        error = (self.layer(x.to(self.layer.weight.dtype)).float() - (2 * x + 1)).square().mean()
        return error * (torch.nan if step == self.poison else 1), {"x": float(x.mean())}

    def validate(self) -> dict[str, float]:
        return {"slope": float(self.layer.weight), "offset": float(self.layer.bias)}

    def pictures(self) -> dict[str, np.ndarray]:
        return {"strip": np.full((4, 8, 3), 200, np.uint8)}

    def export(self, folder: Path) -> None:
        self.exported = folder
        (folder / "done").write_text(str(self.layer.weight.dtype))


def quiet(_: str) -> None:
    pass


SHORT = Training(steps=120, rate=0.1, warmup=5, cooldown=40, weight_decay=0.0, average=0.9, precision="float32", workers=1, save_every=20)


def masters(out: Path) -> dict[str, Tensor]:
    return load(out / "checkpoint.safetensors")


def test_learns_and_exports_the_average(tmp_path: Path) -> None:
    task = Line()
    assert train(task, SHORT, tmp_path, say=quiet)
    average = masters(tmp_path)
    assert float(average["average.layer.weight"]) == pytest.approx(2, abs=0.05)
    assert float(average["average.layer.bias"]) == pytest.approx(1, abs=0.05)
    assert task.exported == tmp_path and (tmp_path / "done").read_text() == "torch.float32"
    assert (tmp_path / "strip.png").exists() and not list(tmp_path.glob("*.part"))


def test_a_resumed_run_is_bit_equal_to_one_that_was_not_stopped(tmp_path: Path) -> None:
    train(Line(), SHORT, tmp_path / "whole", say=quiet)

    class Stopped(Line):
        def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
            if step == 33 and not resumed:
                raise KeyboardInterrupt
            return super().loss(step, rng)

    resumed = False
    with pytest.raises(KeyboardInterrupt):
        train(Stopped(), SHORT, tmp_path / "parts", say=quiet)
    resumed = True
    assert train(Stopped(), SHORT, tmp_path / "parts", say=quiet)
    whole, parts = masters(tmp_path / "whole"), masters(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_workers_share_the_work_and_average(tmp_path: Path) -> None:
    one, two = Line(), Line()
    train(one, SHORT, tmp_path / "one", say=quiet)
    train(two, replace(SHORT, workers=2), tmp_path / "two", say=quiet)
    assert len(two.seen) == 2 * len(one.seen)
    assert float(masters(tmp_path / "two")["average.layer.weight"]) == pytest.approx(2, abs=0.05)
    train(Line(), replace(SHORT, workers=2), tmp_path / "again", say=quiet)
    assert torch.equal(masters(tmp_path / "two")["master.layer.weight"], masters(tmp_path / "again")["master.layer.weight"])


def test_minutes_stop_it_and_the_same_call_goes_on(tmp_path: Path) -> None:
    lines: list[str] = []
    assert not train(Line(), SHORT, tmp_path, minutes=0, say=lines.append)
    assert "stopped at step 0 of 120" in lines[-1]
    assert train(Line(), SHORT, tmp_path, say=quiet)


def test_fresh_forgets_the_checkpoint(tmp_path: Path) -> None:
    train(Line(), SHORT, tmp_path, say=quiet)
    task = Line()
    train(task, SHORT, tmp_path, fresh=True, say=quiet)
    assert len(task.seen) == SHORT.steps


def test_rate_warms_up_stays_and_cools_down() -> None:
    training = Training(steps=100, rate=1.0, warmup=10, cooldown=40)
    rates = [training.rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9:60] == [1.0] * 51
    assert rates[80] == pytest.approx(0.5) and rates[99] == pytest.approx(1 / 40)


def test_bfloat16_keeps_float32_masters(tmp_path: Path) -> None:
    task = Line()
    train(task, Training(steps=40, rate=1e-3, warmup=1, precision="bfloat16", workers=1), tmp_path, say=quiet)
    master = masters(tmp_path)["master.layer.weight"]
    assert master.dtype == torch.float32 and task.layer.weight.dtype == torch.bfloat16
    assert float(master) != float(master.bfloat16())  # bits that bfloat16 would have lost


def test_a_frozen_network_does_not_move(tmp_path: Path) -> None:
    task = Line()
    task.layer.bias.requires_grad_(False)
    start = float(task.layer.bias)
    train(task, Training(steps=20, rate=0.1, warmup=1, weight_decay=0.5, precision="float32", workers=1), tmp_path, say=quiet)
    assert float(masters(tmp_path)["master.layer.bias"]) == start


def test_relative_rates_are_kept(tmp_path: Path) -> None:
    task = Line()
    task.rates = {"layer": 0.0}
    start = task.layer.weight.detach().clone()
    train(task, Training(steps=5, rate=0.1, warmup=1, weight_decay=0.0, precision="float32", workers=1), tmp_path, say=quiet)
    assert torch.equal(masters(tmp_path)["master.layer.weight"], start)


def test_log_has_figures_by_step(tmp_path: Path) -> None:
    train(Line(), Training(steps=20, warmup=1, log_every=10, validate_every=20, precision="float32", workers=1), tmp_path, say=quiet)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 20]
    assert {"loss", "gradient", "rate", "eta", "x"} <= lines[0].keys() and "slope" in lines[2]


def test_a_loss_that_is_not_a_number_stops_with_the_last_good_weights(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"loss is nan at step 7; lower training\.rate"):
        train(Line(poison=7), SHORT, tmp_path, say=quiet)
    assert int(masters(tmp_path)["step"]) == 7 and torch.isfinite(masters(tmp_path)["master.layer.weight"]).all()


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    train(Line(), SHORT, tmp_path, say=quiet)
    other = Line()
    other.modules = {"other": nn.Linear(2, 1)}
    with pytest.raises(RecipeError, match="another recipe"):
        train(other, SHORT, tmp_path, say=quiet)


def test_the_average_is_in_force_inside_the_with_only() -> None:
    layer = nn.Linear(1, 1)
    weights = Weights(nn.ModuleDict({"layer": layer}), torch.bfloat16, decay=0.5)
    before = weights.masters["layer.weight"].clone()
    weights.masters["layer.weight"] += 1
    weights.publish(1000)
    with weights.averaged():
        assert layer.weight.dtype == torch.float32 and layer.weight.item() == pytest.approx(before.item() + 0.5)
        assert not layer.training
    assert layer.weight.dtype == torch.bfloat16 and layer.weight.item() == pytest.approx(before.item() + 1, rel=0.01)


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": 0},
        {"steps": 5, "workers": 0},
        {"steps": 5, "log_every": 0},
        {"steps": 5, "cooldown": 6},
        {"steps": 5, "precision": "float8"},
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match="training"):
        Training(**settings)  # type: ignore[arg-type]
