"""The stages of a run in order: what each depends on, and when it has to be done (again)."""

from __future__ import annotations

import importlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from bnas import progress
from bnas.commands.evaluation import check_metric, check_quantization
from bnas.commands.export_formats import check_export
from bnas.commands.followers import announce, follow, leading
from bnas.commands.invocation import Invocation
from bnas.commands.objectives import check_search, further_hardware
from bnas.commands.project import Made, Project, open_project
from bnas.commands.resuming import as_before, option_of
from bnas.commands.transfer_source import transfer_source
from bnas.config import RunConfig
from bnas.errors import ConfigError, RunError
from bnas.files import read_json, write_json
from bnas.plain import digest, flat
from bnas.search import SearchConfig
from bnas.train import validate_stages
from bnas.train.distributed import joined


@dataclass(frozen=True, kw_only=True)
class StageOf:
    """One stage: `bnas/commands/<name>.py` has a function of that name, (Project) -> Made.

    `options` are the sections (or section.option) whose change makes it out of date, `after` the stages it
    needs; those in `implied` are done first where missing, of the others the person is told. `leaves` are the
    paths it writes before it is done; {hw} stands for the hardware's name. `idle` tells of options with which it
    does nothing; then what comes after it depends on what comes before, as in runs made without such a stage.
    `fits` raises what the stage would raise of options that do not fit, before anything slow is done: once there is
    a search space where the stage comes right after `build`, else at once.
    A stage that `appends` goes on from what it left, also with other options; only --force does it anew. `resumes` are
    options of which that is so of any stage: with other values it goes on; what was made from its result is made anew.
    """

    name: str
    options: tuple[str, ...]
    after: tuple[str, ...] = ()
    implied: tuple[str, ...] = ()
    leaves: tuple[str, ...] = ()
    idle: Callable[[RunConfig], bool] | None = None
    fits: Callable[[Project], object] | None = None
    appends: bool = False
    resumes: tuple[str, ...] = ()


def _check_training(project: Project) -> None:
    check_metric(project)
    validate_stages(project.config.train.stages, project.elastic_space)


# Who evaluates does not change what is found.
SEARCH_OPTIONS = tuple(f"search.{option.name}" for option in fields(SearchConfig) if option.name != "workers")

STAGES = {
    stage.name: stage
    for stage in (
        StageOf(name="build", options=("seed", "model", "data", "space")),
        StageOf(
            name="pretrain",
            options=("seed", "model", "data", "pretrain"),
            leaves=("checkpoints/pretrain", "tensorboard/pretrain"),
            fits=check_metric,
        ),
        StageOf(
            name="train",
            options=("train",),
            after=("pretrain", "build"),
            implied=("pretrain", "build"),
            leaves=("checkpoints/train", "tensorboard/train"),
            fits=_check_training,
        ),
        StageOf(
            name="measure",
            options=("hw", "measure", "quantize.timed"),
            after=("build",),
            implied=("build",),
            leaves=("latency/{hw}", "tensorboard/latency/{hw}"),
            fits=transfer_source,
            appends=True,
        ),
        StageOf(
            name="search",
            options=(*SEARCH_OPTIONS, "loss_points", "loss_margin_points", "front_size"),
            after=("train", "measure"),
            implied=("measure",),
            leaves=("search/{hw}",),
            fits=check_search,
            resumes=("search.evaluations", "loss_points", "loss_margin_points", "front_size"),
        ),
        StageOf(name="extract", options=(), after=("search",), leaves=("subnets",)),
        StageOf(
            name="finetune",
            options=("finetune",),
            after=("extract",),
            leaves=("checkpoints/finetune", "tensorboard/finetune"),
            idle=lambda config: config.finetune.epochs == 0,
        ),
        StageOf(
            name="quantize",
            options=("quantize",),
            after=("finetune",),
            implied=("finetune",),
            leaves=("checkpoints/qat", "tensorboard/qat"),
            fits=check_quantization,
        ),
        StageOf(name="export", options=("export",), after=("quantize",), fits=check_export),
        StageOf(name="verify", options=(), after=("export",)),
        StageOf(name="report", options=(), after=("verify",)),
    )
}


def command(invocation: Invocation) -> None:
    """Do the stage that the command names (`run`: all), after those it implies.

    Under torchrun its first process does; the others follow.
    """
    _refuse_words(invocation)
    with joined() as processes:
        if processes.leads:
            _lead(open_project(invocation), invocation)
        else:
            follow(partial(open_project, invocation))


def _refuse_words(invocation: Invocation) -> None:
    for word in invocation.arguments:
        raise ConfigError(f"{invocation.command}: no other word expected, got '{word}'")
    for option, asked in (("--check", invocation.check), ("--listen", invocation.listen is not None)):
        if asked:
            where = {"--check": "measure", "--listen": "measure worker"}[option]
            raise ConfigError(f"{option}: goes with `{where}`, not with `{invocation.command}`")


def _lead(project: Project, invocation: Invocation) -> None:
    with leading(), project.folder.locked():
        former = project.folder.config() if project.folder.exists() else None
        try:
            if invocation.command == "run":
                _do_all(project, invocation)
            else:
                _do(project, STAGES[invocation.command], force=invocation.force)
        except ConfigError:
            if former is not None:
                _take_back(project, former)
            raise


def _take_back(project: Project, former: Mapping[str, Any]) -> None:
    """Of options one of which was refused, those stay in config.yaml with which a stage was done."""
    done = [
        stage
        for stage in STAGES.values()
        if project.folder.check(_key(project, stage), _inputs(project, stage))
    ]
    sections = {option.partition(".")[0] for stage in done for option in stage.options}
    heeded = {name: value for name, value in project.plain.items() if name in sections}
    project.folder.write_config({**former, **heeded})


def _do_all(project: Project, invocation: Invocation) -> None:
    stale = next((stage for stage in STAGES.values() if _is_outdated(project, stage)), None)
    if stale is not None and not invocation.force:
        raise _changed(project, stale, "run")
    for stage in STAGES.values():
        _perform(project, stage, again=_is_stale(project, stage), force=invocation.force)
        if stage.name == "build":
            _check_fit(project, *STAGES.values())


def _do(project: Project, stage: StageOf, *, force: bool) -> None:
    if "build" not in stage.after:
        _check_fit(project, stage)
    for name in sorted(stage.after, key=list(STAGES).index):
        _need(project, STAGES[name], implied=name in stage.implied, force=force)
        if name == "build":
            _check_fit(project, stage)
    if _is_outdated(project, stage) and not force:
        raise _changed(project, stage, stage.name)
    _perform(project, stage, again=_is_stale(project, stage) or force, force=force)


def _check_fit(project: Project, *stages: StageOf) -> None:
    for stage in stages:
        if stage.fits is not None:
            stage.fits(project)


def _need(project: Project, stage: StageOf, *, implied: bool, force: bool) -> None:
    """See to it that a stage that another one needs is done, or say which command does it."""
    if _is_outdated(project, stage) and not (implied and force):
        raise _changed(project, stage, stage.name)
    if project.folder.check(_key(project, stage), _inputs(project, stage)):
        return
    if not implied:
        project.folder.require(stage.name)
    for name in stage.after:
        _need(project, STAGES[name], implied=name in stage.implied, force=force)
    _perform(project, stage, again=_is_stale(project, stage), force=force)


def _perform(project: Project, stage: StageOf, *, again: bool, force: bool) -> None:
    folder, key, inputs = project.folder, _key(project, stage), _inputs(project, stage)
    record = folder.check(key, inputs)
    if record is not None and not again:
        progress.say(f"{stage.name}: done before: {record.line}")
        return
    begun = _begun(project)
    goes_on = stage.appends or (bool(stage.resumes) and _resumes(project, stage))
    if (again or begun.get(key) not in (None, inputs)) and (force or not goes_on):
        _clean(project, stage)
    before = _before(project)
    for later in _later(stage):  # what was made from the former result goes, finished or half
        if begun.get(_key(project, later)) in _former(project, stage, later) | _former(before, stage, later):
            begun.pop(_key(project, later))
            folder.forget(_key(project, later))
            _clean(project, later)
    folder.forget(key)
    folder.write_config(project.plain)
    write_json(folder.path("begun.json"), {**begun, key: inputs})
    started = time.monotonic()
    announce(stage.name, project)
    module = importlib.import_module(f"bnas.commands.{stage.name}")
    made: Made = getattr(module, stage.name)(project)
    seconds = time.monotonic() - started
    line = f"{made.line}  ({_duration(seconds)})"
    folder.finish(key, inputs, made.paths, made.line, seconds)
    progress.say(f"{stage.name}: {line}")


def _key(project: Project, stage: StageOf) -> str:
    """The stage's name in the ledger; measuring and searching are done for each hardware."""
    return f"{stage.name}@{project.config.hw.name}" if "{hw}" in "".join(stage.leaves) else stage.name


def _inputs(project: Project, stage: StageOf, *, idle: str = "") -> str:
    """Digest of every option on which the stage's result depends; the stage `idle` is taken to do nothing."""
    after = [_inputs(project, STAGES[name], idle=idle) for name in stage.after]
    if stage.name == idle or _is_idle(project, stage):
        return after[0]
    options = {name: option_of(project.config, name) for name in stage.options}
    if "space" in options:
        options["space.file"] = project.space_file_digest
    if "search.objectives" in options and (further := further_hardware(project)):
        options["search.hardware"] = further
    return digest({"options": options, "after": after})


def _is_stale(project: Project, stage: StageOf) -> bool:
    """Done, but with other options, and not with some that left nothing to do."""
    record = project.folder.done(_key(project, stage))
    ways = {"", stage.name} if stage.idle else {""}
    return record is not None and record.inputs not in {_inputs(project, stage, idle=way) for way in ways}


def _is_outdated(project: Project, stage: StageOf) -> bool:
    """Stale, and it cannot go on from what it left."""
    return not stage.appends and _is_stale(project, stage) and not _resumes(project, stage)


def _resumes(project: Project, stage: StageOf) -> bool:
    """Done or begun with other values of those options alone with which a stage, it or one before it, goes on."""
    key, was = _key(project, stage), _inputs(_before(project), stage)
    record = project.folder.done(key)
    return was == _begun(project).get(key) or (record is not None and was == record.inputs)


def _before(project: Project) -> Project:
    return as_before(project, [name for stage in STAGES.values() for name in stage.resumes])


def _is_idle(project: Project, stage: StageOf) -> bool:
    return stage.idle is not None and stage.idle(project.config)


def _former(project: Project, stage: StageOf, later: StageOf) -> set[str]:
    """Inputs with which `later` was begun, if it was from a result of `stage` that is to be made again."""
    if _is_idle(project, stage):
        return set()
    return {_inputs(project, later), *([_inputs(project, later, idle=stage.name)] if stage.idle else [])}


def _later(stage: StageOf) -> Iterator[StageOf]:
    """Every stage that needs this one, directly or not."""
    for other in STAGES.values():
        if stage.name in other.after:
            yield other
            yield from _later(other)


def _clean(project: Project, stage: StageOf) -> None:
    for path in stage.leaves:
        shutil.rmtree(project.folder.path(path.format(hw=project.config.hw.name)), ignore_errors=True)


def _begun(project: Project) -> dict[str, str]:
    """Inputs of every stage that was ever begun: half a stage with other options is not gone on with."""
    path = project.folder.path("begun.json")
    return read_json(path, dict[str, str]) if path.exists() else {}


def _changed(project: Project, stage: StageOf, command: str) -> RunError:
    before, now = flat(project.folder.config()), flat(project.plain)
    keys = [key for key in dict.fromkeys((*before, *now)) if before.get(key) != now.get(key)]
    what = ", ".join(f"{key}: {before.get(key)} → {now.get(key)}" for key in keys[:3])
    unlisted = [f"{file} was edited" for file in (project.config.space.file,) if file]
    unlisted += [f"{hw} was measured again" for hw in further_hardware(project)]
    what = what or " or ".join(unlisted) or "what it was made from was made anew, or an older bnas made it"
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return RunError(
        f"{project.folder}: '{stage.name}' was done with other options ({what}{more}); "
        f"choose another name (name=…), or do it again with these options: python -m bnas {command} --force"
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60} min {int(seconds) % 60} s"
