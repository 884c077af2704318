from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hdt.students import STUDENTS, Training, build, flatten
from hdt.system import checkpoint
from hdt.system.errors import InputError
from hdt.training.fit import Fit, Running, fit

SERIES = torch.sin(torch.arange(120.0).reshape(60, 2) / 3)[None]
VALIDATION = torch.cos(torch.arange(160.0).reshape(80, 2) / 3)
TRAINING = Training(lr=1e-3, epochs=4, batch=8, min_steps=1)  # 25 windows: 4 steps an epoch, 16 in all, 4 looks


def train(name: str, running: Running | None = None, training: Training = TRAINING, seed: int = 5) -> Any:
    student = build(name, 24, 12, 2, seed=0)
    return fit(student, SERIES, VALIDATION, seed, training, running), student


class Stop(BaseException):
    """Stands for Ctrl-C at a chosen moment."""


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Interrupts training in that optimiser step, once; tells how many steps were done since."""
    usual, done = torch.optim.AdamW.step, []

    def stepping(self: torch.optim.AdamW, *args: Any) -> Any:
        done.append(1)
        if len(done) == step:
            raise Stop
        return usual(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", stepping)
    return lambda: len(done) - step


def alike(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", STUDENTS)
@pytest.mark.parametrize("training", [TRAINING, Training(**{**vars(TRAINING), "shuffle_channels": True})])
def test_an_interrupted_training_ends_with_the_weights_of_an_uninterrupted_one(
    name: str, training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops in step 11, of epoch 3, after the look at the end of epoch 2: steps 9 to 16 are done again."""
    plain, expected = train(name, training=training)
    running = Running(checkpoint=tmp_path / "new" / "point.safetensors")
    since = stop_at(11, monkeypatch)
    with pytest.raises(Stop):
        train(name, running, training)
    assert running.checkpoint.is_file()
    run, student = train(name, running, training)
    assert since() == 8
    assert alike(student, expected)
    assert (run.validation, run.best_step, run.steps, run.samples) == (
        plain.validation,
        plain.best_step,
        16,
        100,
    )
    assert list((tmp_path / "new").iterdir()) == []


def test_dropout_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the state of the global generator the resumed weights would be others: the test above can fail."""
    _, expected = train("itransformer")
    monkeypatch.setattr(checkpoint, "restore_random_state", lambda *_: None)
    running = Running(checkpoint=tmp_path / "point")
    stop_at(11, monkeypatch)
    with pytest.raises(Stop):
        train("itransformer", running)
    assert not alike(train("itransformer", running)[1], expected)


def test_the_best_weights_survive_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best look is the first, before the interruption; early stopping counts from it, too."""
    from hdt.training.errors import Errors

    def scripted(student: torch.nn.Module, *_: Any) -> Errors:
        return Errors(scores.pop(0), 0.0)

    monkeypatch.setattr("hdt.training.fit.errors", scripted)
    training = Training(lr=1e-3, epochs=4, batch=8, min_steps=1, patience=2)
    scores = [1.0, 2.0, 3.0, 4.0]
    plain, expected = train("dlinear", training=training)
    assert (plain.best_step, plain.steps) == (4, 12)
    scores = [1.0, 2.0, 3.0, 4.0]
    running = Running(checkpoint=tmp_path / "point")
    stop_at(11, monkeypatch)
    with pytest.raises(Stop):
        train("dlinear", running, training)
    run, student = train("dlinear", running, training)
    assert (run.validation, run.best_step, run.steps) == (1.0, 4, 12)
    assert alike(student, expected)


def test_keeping_checkpoints_changes_no_number(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    assert alike(train("itransformer", Running(checkpoint=tmp_path / "point"))[1], train("itransformer")[1])
    assert torch.equal(torch.get_rng_state(), before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("xpatch", {}),
        ("dlinear", {"seed": 6}),
        ("dlinear", {"training": Training(**{**vars(TRAINING), "lr": 2e-3})}),
        ("dlinear", {"clip": 0.1}),
        ("dlinear", {"precision": "bf16"}),
    ],
)
def test_the_checkpoint_of_another_training_is_ignored_and_replaced(
    name: str, given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "point"
    extra = {key: given.pop(key) for key in ("clip", "precision") if key in given}
    _, expected = train(name, Running(**extra), **given)
    stop_at(11, monkeypatch)
    with pytest.raises(Stop):
        train("dlinear", Running(checkpoint=path))
    assert alike(train(name, Running(checkpoint=path, **extra), **given)[1], expected)
    assert not path.exists()


def test_other_data_or_first_weights_start_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cases = tmp_path / "point", []
    for series, validation, seed in [(SERIES * 2, VALIDATION, 0), (SERIES, VALIDATION * 2, 0), (SERIES, VALIDATION, 1)]:
        student = build("dlinear", 24, 12, 2, seed)
        fit(student, series, validation, 5, TRAINING)
        cases.append((series, validation, seed, student))
    for series, validation, seed, expected in cases:
        with monkeypatch.context() as patch:
            stop_at(11, patch)
            with pytest.raises(Stop):
                train("dlinear", Running(checkpoint=path))
        student = build("dlinear", 24, 12, 2, seed)
        run = fit(student, series, validation, 5, TRAINING, Running(checkpoint=path))
        assert run.steps == 16 and alike(student, expected)


def test_a_damaged_checkpoint_starts_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "point"
    _, expected = train("dlinear")
    stop_at(11, monkeypatch)
    with pytest.raises(Stop):
        train("dlinear", Running(checkpoint=path))
    path.write_bytes(path.read_bytes()[:-100])
    assert alike(train("dlinear", Running(checkpoint=path))[1], expected)


def test_a_kept_checkpoint_ends_the_same_training_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = Running(checkpoint=tmp_path / "point", keep=True)
    first, expected = train("itransformer", running)
    monkeypatch.setattr(torch.optim.AdamW, "step", None)
    again, student = train("itransformer", running)
    assert again == first and alike(student, expected)


def test_a_checkpoint_that_cannot_be_written_is_the_readers_to_fix(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write the checkpoint"):
        train("dlinear", Running(checkpoint=tmp_path / "file" / "point"))


TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=4)
    | st.builds(lambda n: torch.arange(float(n)), st.integers(0, 3)),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple)
    | st.dictionaries(st.integers(0, 9), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return type(other) is dict and list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@given(tree=TREES)
def test_unpack_inverts_pack_through_json(tree: Any) -> None:
    tensors, packed = checkpoint.pack(tree, "tree")
    assert same(checkpoint.unpack(json.loads(json.dumps(packed)), tensors), tree)


def test_what_json_does_not_know_is_refused_by_its_place() -> None:
    with pytest.raises(TypeError, match=r"state\.rates\.1: a set cannot"):
        checkpoint.pack({"rates": [1, {2}]}, "state")


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_an_optimiser_goes_on_from_a_file(kind: Any, tmp_path: Path) -> None:
    def stepped(optimizer: torch.optim.Optimizer, student: torch.nn.Module) -> torch.Tensor:
        student(SERIES[:, :24]).square().mean().backward()
        optimizer.step()
        return flatten(student)

    student, other = build("dlinear", 24, 12, 2, 0), build("dlinear", 24, 12, 2, 0)
    options = {"lr": 0.1, "momentum": 0.9} if kind is torch.optim.SGD else {"lr": 0.1}
    optimizer = kind(student.parameters(), **options)
    stepped(optimizer, student)
    tensors, packed = checkpoint.pack(optimizer.state_dict(), "optimizer")
    checkpoint.save(tmp_path / "point", tensors, {"optimizer": packed})
    found = checkpoint.load(tmp_path / "point")
    restored = kind(other.parameters(), lr=1.0)
    restored.load_state_dict(checkpoint.unpack(found.facts["optimizer"], found.tensors))
    other.load_state_dict(student.state_dict())
    student.zero_grad()
    assert torch.equal(stepped(optimizer, student), stepped(restored, other))


def test_files_hold_strided_and_shared_tensors_and_are_replaced_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, matrix = tmp_path / "point", torch.arange(6.0).reshape(2, 3)
    checkpoint.save(path, {"a": matrix, "b": matrix.T}, {"best": float("inf")})
    tensors, facts = checkpoint.load(path)
    assert torch.equal(tensors["a"], matrix) and torch.equal(tensors["b"], matrix.T) and facts == {"best": float("inf")}

    def failing(_: Any, part: Path, **__: Any) -> None:
        part.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", failing)
    with pytest.raises(InputError, match="No space left on device"):
        checkpoint.save(path, {"a": matrix}, {})
    assert list(tmp_path.iterdir()) == [path] and checkpoint.load(path).facts == facts
    assert checkpoint.load(tmp_path / "absent") is None


def test_gradients_are_clipped_to_the_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    usual, norms = torch.optim.AdamW.step, []

    def stepping(self: torch.optim.AdamW) -> None:
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(torch.nn.utils.get_total_norm(gradients).item())
        usual(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", stepping)
    train("dlinear")
    free, limit = list(norms), sorted(norms)[8]
    norms.clear()
    train("dlinear", Running(clip=limit))
    assert norms[0] == pytest.approx(min(free[0], limit), rel=1e-4)
    assert len(norms) == 16 and max(norms) <= limit * (1 + 1e-4) < max(free)


@pytest.mark.parametrize("name", STUDENTS)
def test_bf16_is_for_the_forward_pass_of_training_steps_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[tuple[bool, torch.dtype]] = set()
    kind = STUDENTS[name]
    linear = next(m for m in build(name, 24, 12, 2, 0).named_modules() if isinstance(m[1], torch.nn.Linear))[0]
    usual = kind.forward

    def forward(self: Any, context: torch.Tensor) -> torch.Tensor:
        hook = self.get_submodule(linear).register_forward_hook(lambda *a: seen.add((self.training, a[2].dtype)))
        try:
            return usual(self, context)
        finally:
            hook.remove()

    monkeypatch.setattr(kind, "forward", forward)
    run, student = train(name, Running(precision="bf16"))
    assert seen == {(True, torch.bfloat16), (False, torch.float32)}
    assert all(p.dtype == torch.float32 for p in student.parameters())
    assert run.validation == pytest.approx(train(name)[0].validation, rel=0.05)


def test_a_given_number_of_steps_is_done_with_all_halvings() -> None:
    rates = []

    class Watching(torch.optim.AdamW):
        def step(self, *args: Any) -> Any:
            rates.append(self.param_groups[0]["lr"])
            return super().step(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "AdamW", Watching)
        for steps, samples in [(6, 25 + 16), (3, 24), (20, 125)]:
            rates.clear()
            watched: list[tuple[int, int]] = []
            run, _ = train("dlinear", Running(steps=steps, watch=lambda *w, to=watched: to.append(w[:2])))
            assert (run.steps, run.samples, len(rates)) == (steps, samples, steps)
            assert rates == [1e-3 * 0.5 ** (4 * step // steps) for step in range(steps)]
            assert watched == [(min(4 * n, steps), steps) for n in range(1, -(-steps // 4) + 1)]


def test_the_usual_training_is_what_it_was_before_there_were_running_options() -> None:
    """The same as the loop written out: AdamW, halvings, no clipping, float32."""
    student, generator = build("dlinear", 24, 12, 2, seed=0), torch.Generator().manual_seed(5)
    every = SERIES[0].unfold(0, 36, 1).transpose(1, 2)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3, weight_decay=0.0)
    for epoch in range(4):
        for number, chosen in enumerate(torch.randperm(25, generator=generator).split(8)):
            optimizer.param_groups[0]["lr"] = 1e-3 * 0.5 ** ((4 * epoch + number) // 4)
            loss = (student(every[chosen, :24]) - every[chosen, 24:]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    run, trained = train("dlinear")
    assert run.best_step == 16  # the last weights are the best ones, so these can be compared
    torch.testing.assert_close(flatten(trained), flatten(student))


COMPILED = """
import functools, sys, torch
from hdt.students import build, flatten
from hdt.training.fit import Running, Training, fit

if sys.argv[1] == "cpu":
    torch.compile = functools.partial(torch.compile, backend="eager")  # what it compiles to is not ours to test
series, weights = torch.sin(torch.arange(120.0).reshape(1, 60, 2) / 3).to(sys.argv[1]), []
for compile in (False, True):
    student = build("dlinear", 24, 12, 2, seed=0).to(sys.argv[1])
    fit(student, series, series[0], 5, Training(lr=1e-3, epochs=2, batch=8, min_steps=1), Running(compile=compile))
    weights.append(flatten(student))
torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-5)
"""


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_compiled_steps_train_alike(device: str) -> None:
    """In a process of its own: torch.compile cannot trace through the shape checks of the tests."""
    run = subprocess.run([sys.executable, "-c", COMPILED, device], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_only_training_steps_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = []

    def recording(student: torch.nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda context: batches.append(len(context)) or student(context)

    monkeypatch.setattr(torch, "compile", recording)
    train("dlinear")
    assert batches == []
    train("dlinear", Running(compile=True))
    assert batches == [8, 8, 8, 1] * 4


def test_a_machine_without_compiler_refuses_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def broken(_: torch.nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        def call(_: torch.Tensor) -> torch.Tensor:
            raise TorchDynamoException("No working C++ compiler found\n\nSet TORCHDYNAMO_VERBOSE=1")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(InputError, match=r"compile failed \(No working C\+\+ compiler found\); leave --compile out$"):
        train("dlinear", Running(compile=True))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"precision": "fp8"}, "unknown precision 'fp8'; choose one of float32, bf16"),
        ({"clip": 0.0}, "clip=0.0: expected a positive number"),
        ({"clip": float("nan")}, "clip=nan: expected a positive number"),
        ({"steps": 0}, "steps=0: at least one"),
    ],
)
def test_running_options_out_of_range_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Running(**given)


@pytest.mark.gpu
@pytest.mark.parametrize("name", STUDENTS)
def test_an_interrupted_training_goes_on_alike_on_cuda(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_cuda(running: Running | None = None) -> tuple[Fit, torch.nn.Module]:
        student = build(name, 24, 12, 2, seed=0).cuda()
        return fit(student, SERIES.cuda(), VALIDATION.cuda(), 5, TRAINING, running), student

    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        _, expected = on_cuda()
        running = Running(checkpoint=tmp_path / "point")
        stop_at(11, monkeypatch)
        with pytest.raises(Stop):
            on_cuda(running)
        _, student = on_cuda(running)
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(flatten(student), flatten(expected))
