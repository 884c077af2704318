from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from conftest import make_frame
from hypothesis import given
from hypothesis import strategies as st

import hdt
from hdt.data.registry import REGISTRY
from hdt.distillation import config, methods, recipe
from hdt.system.errors import InputError


def test_defaults_come_from_the_method_and_the_data_set() -> None:
    settings = config.resolve("co2")
    entry, method = REGISTRY["co2"], methods.METHODS["hdt"]
    assert (settings.length, settings.context, settings.horizon) == (entry.length, entry.context, entry.horizon)
    assert (settings.parameterization, settings.objective) == (method.parameterization, method.objective)
    assert settings.options["k"] == 32 and settings.options["lam"] == 0.5
    assert config.resolve(None).length == 384


def test_auto_is_a_method_that_is_named_in_what_comes_of_it(tmp_path: Path) -> None:
    assert config.resolve("co2", method="auto") == config.resolve("co2", method="fred-wiener")  # a single channel
    assert config.resolve("ETTh1", method="auto") == config.resolve("ETTh1", method="fred-wiener", individual="auto")
    for count, own in ((64, "auto"), (65, 0)):
        assert config.resolve(None, count, method="auto", channels="all").options["individual"] == own
    small = {"context": 12, "horizon": 6, "length": 48, "iterations": 1, "features": 8, "draws": 1, "period": 12}
    assert hdt.distill(make_frame(), method="auto", **small).info.settings.method == "fred-wiener"


def test_auto_weighs_the_noise_of_longer_sets_less() -> None:
    def noise(**given: object) -> float:
        return config.resolve(None, 7, **given).options["noise"]

    assert [noise(method="auto", length=length) for length in (192, 384, 1536, 6144)] == [0.06, 0.06, 0.015, 0.00375]
    assert noise(method="auto", budget=7 * 768) == 0.03  # which sets the length
    assert noise(method="auto", channels=2, length=1536) == 0.015
    assert noise(method="auto", length=1536, noise=0.2) == 0.2
    assert noise(method="fred-wiener", length=1536) == 0.06
    assert "noise" not in config.resolve(None, 7, method="auto", objective="cfm", length=1536).options


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "magic"}, "unknown method 'magic'; known: cfm, condtsf"),
        ({"lam": -0.1}, r"lam=-0.1: Input should be greater than or equal to 0"),
        ({"lam": math.nan}, "lam=nan: Input should be a finite number"),
        ({"lam": "much"}, "lam='much': Input should be a valid number"),
        ({"k": 0}, "k=0: Input should be greater than or equal to 1"),
        ({"k": 194}, r"k=194 harmonics, but a series of M = 384 steps has M//2\+1 = 193; lower --k"),
        ({"k": 1.5}, "k=1.5: Input should be a valid integer"),
        ({"length": 191}, r"length M = 191 is below context 96 \+ horizon 96 = 192"),
        ({"k": True}, "k=True: Input should not be true or false"),
        ({"lam": False}, "lam=False: Input should not be true or false"),
        ({"inner_lr": 1e300}, "inner_lr=1e\\+300: Input should be at most 1e\\+37"),
        ({"segments": 10**12}, "segments=10{12}: Input should be at most 2,147,483,647"),
        ({"iterations": True}, "iterations=True: Input should not be true or false"),
        ({"seed": 2**63}, "seed=9223372036854775808: Input should be at most 9,223,372,036,854,775,807"),
        ({"start": "x" * 999}, "unknown start 'x"),
        ({"device": "x" * 999}, "device='x{79}…: Input should be"),
        ({"method": ["hdt"]}, r"unknown method \['hdt'\]; known"),
        ({"options": 3}, "options=3: expected names with their values"),
        ({"data": 3}, "no setting 'data'"),
        ({"real_channels": 3}, "no setting 'real_channels'"),
        ({"progress": 3}, "no setting 'progress'"),
        ({"seed": -1}, "seed=-1"),
        ({"device": "tpu"}, "device='tpu'"),
        ({"parameterization": "wavelet"}, "unknown parameterization 'wavelet'; known: fred, harmonic, nsd, raw"),
        ({"objective": "hope"}, "unknown objective 'hope'"),
        ({"start": "zero"}, "unknown start 'zero'; known: phase, real"),
        ({"backbone": "rnn"}, "unknown backbone 'rnn'; known: dlinear"),
        ({"colour": "red"}, "objective 'harmonic' with .* has no setting 'colour'; they have steps_real"),
        ({"objective": "gradient", "k": 3}, "objective 'gradient' with parameterization 'harmonic' has no setting 'k'"),
        ({"learning_rate": 0}, "learning_rate=0"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        config.resolve("ETTh1", **given)
    assert "\n" not in str(caught.value)


def test_wrong_settings_cost_no_reading(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lam"):
        hdt.distill(tmp_path / "absent.csv", lam=-1)


@given(
    lam=st.floats(0, 10),
    k=st.integers(1, 193),
    seed=st.integers(0, 9),
    lr=st.floats(1e-4, 1),
    name=st.sampled_from(["co2", "ETTh1"]),
    objective=st.sampled_from(["harmonic", "gradient"]),
    missing=st.sampled_from(["auto", "error"]),
)
def test_a_recipe_and_its_command_lead_back_to_the_same_settings(
    lam: float, k: int, seed: int, lr: float, name: str, objective: str, missing: str, tmp_path_factory: Any
) -> None:
    own = {"lam": lam, "k": min(k, REGISTRY[name].length // 2 + 1)} if objective == "harmonic" else {}
    settings = config.resolve(name, seed=seed, learning_rate=lr, objective=objective, batch=7, **own)
    load = {} if missing == "auto" else {"missing": missing}
    command = recipe.command(settings, name, load)
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(recipe.write_recipe(settings, name, load, command))
    data, given = recipe.read_recipe(path)
    assert given.pop("missing", "auto") == missing
    assert data == name
    assert config.resolve(name, **given) == settings
    assert path.read_text().startswith(f"# {command}\n")


def test_the_command_names_size_and_seed_and_what_differs() -> None:
    settings = config.resolve("ETTh1", k=16, lam=0.5, batch=7)
    command = recipe.command(settings, "ETTh1", {"split": [0.6, 0.2, 0.2]})
    size = "--method hdt --length 384 --context 96 --horizon 96 --seed 0"
    assert command == f"hdt distill ETTh1 {size} --option batch=7 --k 16 --split 0.6,0.2,0.2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b", "expected settings"),
        ("a: [", "cannot be read as YAML"),
        ("lenght: 3", "unknown setting lenght; known: backbone"),
        ("options: 3", "'options' hold"),
        ("options: {1: 2}", "'options' hold"),
        ("load: [split]", "'options' hold"),
        ("data: 5", "data=5: expected a name or a path"),
        ("data: [co2]", r"data=\['co2'\]: expected a name or a path"),
        ("options: {data: co2}", "data: stands beside 'load' and 'options'"),
        ("options: {seed: 3}\nseed: 4", "seed: stands beside 'load' and 'options'"),
        ("a: " + "[" * 2000, "cannot be read as YAML"),
    ],
)
def test_broken_recipes_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        recipe.read_recipe(path)
    with pytest.raises(InputError, match="no such recipe"):
        recipe.read_recipe(tmp_path / "absent.yaml")


def test_unreadable_lengths_are_found_before_the_loop() -> None:
    with pytest.raises(InputError, match="280 training rows are fewer than length M = 300"):
        hdt.distill(make_frame(), length=300, context=12, horizon=6, k=4)
    with pytest.raises(InputError, match=r"2\d training rows are fewer than context \+ horizon = 30"):
        hdt.distill(make_frame(40), length=40, context=24, horizon=6, k=4)


def test_many_channels_are_pooled_unless_all_are_asked_for() -> None:
    assert config.resolve(None, 32, method="wiener").channels is None
    assert config.resolve(None, 33, method="wiener").channels == 8
    assert config.resolve(None, 33, method="wiener", channels="all").channels is None
    assert config.resolve(None, 33, method="wiener", channels=12).channels == 12
    assert config.resolve(None, 33, method="hdt").channels is None  # matches every channel with its own
    assert config.resolve(None, 65, method="mtt", channels="all").channel_batch == 32
    assert config.resolve("Electricity", method="fred-wiener").channels == 8
    with pytest.raises(InputError, match="channels"):
        config.resolve(None, 33, method="wiener", channels="every")


def test_fewer_channels_are_for_objectives_that_pool_them() -> None:
    settings = config.resolve("ETTh1", method="wiener", channels=3)
    assert settings.channels == 3 and settings.sequences == 1
    assert config.resolve("ETTh1", method="wiener", channels=1).sequences == 2
    assert config.resolve("ETTh1", method="wiener", channels=7) == config.resolve("ETTh1", method="wiener")
    with pytest.raises(InputError, match="channels=8, but the data has 7; lower --channels"):
        config.resolve("ETTh1", method="wiener", channels=8)
    with pytest.raises(InputError, match="matches every channel with its own; leave --channels out"):
        config.resolve("ETTh1", method="hdt", channels=3)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"method": "wiener", "budget": 2688}, (384, None, 1)),  # as many as 7 channels need
        ({"method": "wiener", "budget": 7000}, (1000, None, 1)),  # more: longer
        ({"method": "wiener", "budget": 1600}, (400, 4, 1)),  # less: fewer channels
        ({"method": "wiener", "budget": 500}, (250, 1, 2)),  # one channel needs two sequences
        ({"method": "wiener", "budget": 1600, "channels": 2}, (800, 2, 1)),
        ({"method": "wiener", "budget": 500, "channels": 1, "sequences": 1}, (500, 1, 1)),
        ({"method": "hdt", "budget": 1600}, (228, None, 1)),  # every channel matched with its own
    ],
)
def test_a_budget_sets_length_and_channels(given: dict[str, Any], expected: tuple[int, int | None, int]) -> None:
    settings = config.resolve("ETTh1", **given)
    assert (settings.length, settings.channels, settings.sequences) == expected
    assert settings.length * (settings.channels or 7) * settings.sequences <= given["budget"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "hdt", "budget": 1000}, "budget=1000 leaves 142 steps .* give at least 1344"),
        ({"method": "wiener", "budget": 100}, "budget=100 leaves 50 steps .* give at least 384"),
        ({"method": "wiener", "budget": 2000, "length": 300}, "budget and length both decide how many steps"),
        ({"method": "wiener", "budget": -5}, "budget=-5: expected a positive number of floats"),
    ],
)
def test_a_budget_too_small_says_what_is_needed(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        config.resolve("ETTh1", **given)


def test_numbers_or_auto() -> None:
    texts = ("32", "0.5", "auto", "1e-3", "010", "-1")
    assert [recipe.number_or("auto", "k", text) for text in texts] == [32, 0.5, "auto", 1e-3, 10, -1]
    for text in ("big", "true", "[1]", "0x10", "1_0", "12:30", ""):
        with pytest.raises(InputError, match="expected a number or auto"):
            recipe.number_or("auto", "k", text)
    with pytest.raises(InputError, match="--k ': cannot be read as YAML"):
        recipe.number_or("auto", "k", "'")


@given(text=st.text(max_size=20) | st.from_regex(r"[-+.0-9eExXob_:a-f]{1,8}", fullmatch=True))
def test_text_written_into_a_recipe_is_read_as_text(text: str, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    settings = config.resolve("co2")
    path.write_text(recipe.write_recipe(settings, "co2", {"time_column": text}, "hdt"), encoding="utf-8")
    assert recipe.read_recipe(path)[1]["time_column"] == text


@pytest.mark.parametrize("words", ["--lam 1e-3", "--option lam=1e-3", "--option lam=0.001"])
def test_numbers_mean_the_same_wherever_they_stand(words: str) -> None:
    flag, text = words.split()
    value = recipe.number_or("auto", "lam", text) if flag == "--lam" else recipe.parse_options([text])["lam"]
    assert value == 0.001


def test_the_backbone_is_that_of_the_objective_unless_given() -> None:
    assert [config.resolve("ETTh1", method=name).backbone for name in ("cfm", "hdt-cfm", "mtt", "hdt")] == [
        "mlp", "mlp", "dlinear", "dlinear",
    ]  # fmt: skip
    assert config.resolve("ETTh1", method="mtt", objective="cfm", parameterization="raw").backbone == "mlp"
    assert config.resolve("ETTh1", method="cfm", backbone="dlinear").backbone == "dlinear"
