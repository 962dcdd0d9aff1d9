"""Settings without an effect: which are reported, and that these really have none."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from jobs import prepare
from jobs.shared import early
from pipeline import config as configuration
from pipeline.compare.variants import check_comparison
from pipeline.compare.variants import unused as unused_of_variants
from pipeline.config import Config, load
from pipeline.config.unused import conditions, unused
from pipeline.errors import Notice
from pipeline.model.language_model import LanguageModel
from pipeline.training.optimizers import build_optimizer
from pipeline.training.schedules import learning_rate

SCHEDULES = get_args(configuration.section_fields("optimizer")["schedule"].annotation)
OPTIMIZERS = get_args(configuration.section_fields("optimizer")["name"].annotation)
# a value other than the default for each setting of a schedule, and of an optimizer
OF_SCHEDULE = {
    "warmup_steps": 7,
    "decay_after_epochs": 1,
    "decay_at_epochs": [3],
    "decay_factor": 0.25,
    "final_lr_ratio": 0.3,
    "peak_fraction": 0.6,
}
OF_OPTIMIZER = {"momentum": 0.8, "muon_momentum": 0.5, "beta1": 0.5, "beta2": 0.5, "eps": 1e-3}


def sentences(*overrides: str, **how: Any) -> list[str]:
    return list(unused(load(None, list(overrides)), **how).values())


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], []),
        (
            ["optimizer.momentum=0.9"],
            ["optimizer.momentum=0.9 has no effect with optimizer.name=adamw, only with sgd"],
        ),
        (["optimizer.momentum=0.9", "optimizer.name=sgd"], []),
        (["train.teacher_weight=0.9"], ["train.teacher_weight=0.9 has no effect without train.teacher"]),
        (["train.teacher_weight=0.9", "train.teacher=runs/large"], []),
        (["train.teacher_weight=0.5"], []),  # the default
        (
            ["corpus.valid=held-out.txt", "corpus.valid_fraction=0.1"],
            ["corpus.valid_fraction=0.1 has no effect with corpus.valid"],
        ),
        (
            ["optimizer.schedule=step", "optimizer.decay_at_epochs=[3]", "optimizer.decay_after_epochs=2"],
            ["optimizer.decay_after_epochs=2 has no effect with optimizer.decay_at_epochs"],
        ),
        (["optimizer.decay_factor=0.1"], ["optimizer.decay_factor=0.1 has no effect with optimizer.schedule=cosine, "
                                          "only with step or plateau"]),
        (["prune.every_steps=5"], ["prune.every_steps=5 has no effect without prune.sparsity"]),
        (["search.startup_trials=9"], []),  # no search
        (
            ["cluster.backend=local", "cluster.address=head:6379", "cluster.max_failures=0"],
            [f"cluster.{said} has no effect with cluster.backend=local, only with ray"
             for said in ("address='head:6379'", "max_failures=0")],
        ),
        (["cluster.address=head:6379", "cluster.max_failures=0", "cluster.min_workers=1"], []),
        (
            ["model.hidden_dropout=0.3", "model.num_layers=1"],
            [
                "model.hidden_dropout=0.3 has no effect with model.num_layers=1 and with model.cell=lstm, only with "
                "transformer"
            ],
        ),
        (["model.hidden_dropout=0.3", "model.num_layers=1", "model.cell=transformer"], []),
        (["model.hidden_dropout=0.3"], []),  # two layers
        (
            ["train.patience=3", "corpus.valid_fraction=0"],
            ["train.patience=3 has no effect without corpus.valid or corpus.valid_fraction"],
        ),
        (["train.patience=3"], []),
        (["train.patience=3", "corpus.valid=held-out.txt"], []),
        (
            ["train.evaluate_at_tokens=[5]", "train.evaluate_every_steps=9", "corpus.valid_fraction=0"],
            [
                "train.evaluate_every_steps=9 has no effect without corpus.valid or corpus.valid_fraction",
                "train.evaluate_at_tokens=[5] has no effect without corpus.valid or corpus.valid_fraction",
            ],
        ),
        (
            ["run.sample_tokens=50", "run.sample_prompt=The", "corpus.valid_fraction=0"],
            [
                "run.sample_tokens=50 has no effect without corpus.valid or corpus.valid_fraction",
                "run.sample_prompt='The' has no effect without corpus.valid or corpus.valid_fraction",
            ],
        ),
        (["run.sample_tokens=50", "run.sample_prompt=The", "corpus.valid=held-out.txt"], []),
        (
            ["run.sample_prompt=The", "run.sample_tokens=0"],
            ["run.sample_prompt='The' has no effect without run.sample_tokens"],
        ),
        (
            ["evaluate.burn_in=9", "data.layout=documents", "tokenizer.eos=document"],
            ["evaluate.burn_in=9 has no effect with data.layout=documents, only with streams"],
        ),
        (  # a change within the run gives it an effect
            ["optimizer.decay_factor=0.1", "train.changes=[{tokens: 9, settings: {optimizer.schedule: step}}]"],
            [],
        ),
    ],
)  # fmt: skip
def test_each_setting_without_an_effect_has_a_sentence(overrides: list[str], said: list[str]) -> None:
    assert sentences(*overrides) == said


def test_a_job_notes_them() -> None:
    with pytest.warns(Notice, match=r"^optimizer.momentum=0.9 has no effect with optimizer.name=adamw, only with sgd$"):
        early.note_unused(load(None, ["optimizer.momentum=0.9"]))


def test_the_preparation_of_a_corpus_notes_those_of_its_sections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("some words\n")
    given = ["corpus.train=text.txt", "corpus.valid_fraction=0", "tokenizer.kind=byte", "tokenizer.min_count=3"]
    with pytest.warns(Notice) as noted:
        prepare.main([*given, "optimizer.momentum=0.9", "--dry-run"])
    assert [str(each.message) for each in noted] == [
        "tokenizer.min_count=3 has no effect with tokenizer.kind=byte, only with char, word or bpe"
    ]


def test_a_searched_setting_counts_as_given_and_as_having_any_value() -> None:
    assert sentences("search.startup_trials=9", sections=["search"]) == [
        "search.startup_trials=9 has no effect with search.algorithm=random, only with tpe"
    ]
    assert sentences(varied=["optimizer.momentum"]) == [
        "optimizer.momentum has no effect with optimizer.name=adamw, only with sgd"
    ]
    assert sentences("optimizer.momentum=0.5", varied=["optimizer.name"]) == []


def test_a_variant_s_setting_without_an_effect_names_the_variant() -> None:
    config = load(None, [
        "train.teacher_weight=0.9",
        "optimizer.momentum=0.5",  # it has an effect in one of the variants
        "compare.variants={a: {model.cell: lstm}, b: {model.num_experts: 3}, c: {optimizer.name: sgd}}",
        "compare.seeds=[1]",
        "compare.search={model.adaptive_div_value: [2, 3], num_trials: 2}",
    ])  # fmt: skip
    assert unused_of_variants(config, *check_comparison(config)) == [
        "model.adaptive_div_value has no effect with model.head=softmax, only with adaptive",
        "train.teacher_weight=0.9 has no effect without train.teacher",
        "compare.variants: b: model.num_experts=3 has no effect with model.head=softmax, only with mixture",
    ]


def test_conditions_name_existing_settings_and_values() -> None:
    num_conditions = 0
    for section in Config.model_fields:
        for field in configuration.section_fields(section).values():
            for path, values, _ in conditions(field.json_schema_extra["only_with"]):
                of, _, name = path.partition(".")
                annotation = configuration.section_fields(of)[name].annotation
                num_conditions += 1
                for value in values:
                    configuration.field_value(path, value)  # raises an error for an unknown value
                    assert not get_args(annotation) or value in get_args(annotation) or path == "corpus.format"
    assert num_conditions > 30


@pytest.mark.parametrize(("schedule", "name"), itertools.product(SCHEDULES, OF_SCHEDULE))
def test_a_schedule_depends_on_exactly_the_settings_not_reported(schedule: str, name: str) -> None:
    def rates(*overrides: str) -> list[float]:
        config = load(None, [f"optimizer.schedule={schedule}", *overrides]).optimizer
        return [
            learning_rate(config, step=step, total_steps=100, epoch=step // 10, num_drops=step // 30)
            for step in range(100)
        ]

    override = f"optimizer.{name}={OF_SCHEDULE[name]}"
    has_none = bool(sentences(f"optimizer.schedule={schedule}", override))
    assert (rates() == rates(override)) is has_none


@pytest.mark.parametrize(("optimizer", "name"), itertools.product(OPTIMIZERS, OF_OPTIMIZER))
def test_an_optimizer_depends_on_exactly_the_settings_not_reported(optimizer: str, name: str) -> None:
    def weights(*overrides: str) -> list[float]:
        torch.manual_seed(1)
        config = load(None, [f"optimizer.name={optimizer}", "model.hidden_size=4", *overrides])
        model = LanguageModel(config.model, 5)
        updates = build_optimizer(config.optimizer, model)
        for _ in range(3):
            for parameter in model.parameters():
                parameter.grad = parameter.detach().cos()
            updates.step()
        return [number for parameter in model.parameters() for number in parameter.flatten().tolist()]

    override = f"optimizer.{name}={OF_OPTIMIZER[name]}"
    has_none = bool(sentences(f"optimizer.name={optimizer}", override))
    assert (weights() == weights(override)) is has_none
