"""A conf's YAML files, its groups and the command line's overrides, composed by Hydra into plain data.

Nothing here knows which options exist: `plain.from_plain` refuses a misspelt one, with its path. This is
the only file that imports Hydra, which writes no folder and no log when it is only asked to compose.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException, HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from bnas.errors import ConfigError, did_you_mean
from bnas.plain import digest

_also_searched: ContextVar[tuple[Path, ...]] = ContextVar("_also_searched", default=())


class _AlsoSearched(SearchPathPlugin):  # type: ignore[misc]  # hydra's own types are not followed
    """Lets Hydra look for confs and groups in the next folders where the first has none."""

    def manipulate_search_path(self, search_path: Any) -> None:
        for folder in _also_searched.get():
            search_path.append("bnas", f"file://{folder}")


def conf_folder() -> Path:
    """The folder of the confs that bnas ships: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def compose(conf: str, overrides: Sequence[str] = (), hw: str | None = None) -> dict[str, Any]:
    """The plain configuration of `conf` (a name, or the path of a YAML file) with `overrides` on top.

    A name, and the choice of a group (`model=resnet18`), is looked up in ./conf first, then in `conf_folder`.
    A choice may be the path of a YAML file as well, and that of a model the name of any model
    (`model=retinanet_resnet50_fpn`, `model=my_package.my_module:make`), short for a file with that `name`
    alone. `hw` is the same as the override `hw=...`. The result has resolved interpolations, dicts, lists
    and scalars only; where no file says it, its `name` is that of the conf, and `hw.name` that of the choice.

    Raises:
        ConfigError: unknown conf or choice, unreadable YAML or override; the text names it.
    """
    name, folders = _find(conf)
    if hw is not None:
        overrides = (*overrides, f"hw={hw}")
    choices: dict[str, str] = {}  # the last one of a group wins
    values: list[str] = []
    for override in overrides:
        key, equals, value = override.partition("=")
        if equals and "." not in key and value[:1] not in ("{", "[") and _choices(key.lstrip("+"), folders):
            choices[key.lstrip("+")] = value
        else:
            values.append(_value_override(override))
    stored = {group: _stored_choice(group, choice, folders) for group, choice in choices.items()}
    config, composed_choices = _composed(conf, name, folders, stored, values)
    config.setdefault("name", name)
    hw_choice = choices.get("hw", composed_choices.get("hw"))
    if hw_choice is not None and isinstance(config.get("hw"), dict):
        config["hw"].setdefault("name", Path(hw_choice).stem)
    return config


def _find(conf: str) -> tuple[str, tuple[Path, ...]]:
    """The conf's name and the folders to look in, in order."""
    user, ours = Path.cwd() / "conf", conf_folder()
    folders = tuple(dict.fromkeys(folder.resolve() for folder in (user, ours) if folder.is_dir()))
    if not folders:
        raise ConfigError(f"{ours}: no such folder; install bnas again")
    if "/" in conf or conf.endswith((".yaml", ".yml")):
        path = Path(conf).expanduser()
        path = path if path.suffix else path.with_suffix(".yaml")
        if path.suffix != ".yaml" or not path.is_file():
            raise ConfigError(f"no conf file {conf}; a path must be that of a .yaml file")
        return path.stem, tuple(dict.fromkeys((path.parent.resolve(), *folders)))
    if not any((folder / f"{conf}.yaml").is_file() for folder in folders):
        known = {path.stem for folder in folders for path in folder.glob("*.yaml")}
        raise ConfigError(f"unknown conf '{conf}'{did_you_mean(conf, known)}")
    return conf, folders


def _choices(group: str, folders: tuple[Path, ...]) -> set[str]:
    """The names a group offers; none when there is no such group."""
    if not group.isidentifier():
        return set()
    roots = [folder / group for folder in folders]
    return {
        path.relative_to(root).with_suffix("").as_posix() for root in roots for path in root.rglob("*.yaml")
    }


def _stored_choice(group: str, choice: str, folders: tuple[Path, ...]) -> str:
    """The name by which Hydra knows `choice`; a file's content is put where Hydra finds it."""
    known = _choices(group, folders)
    if choice in known:
        return choice
    if group == "model" and (":" in choice or choice.isidentifier()):
        return _stored(group, choice, {"name": choice})
    if not choice.endswith((".yaml", ".yml")):
        guess = did_you_mean(choice, known)
        listed = "" if guess.startswith("; known:") else f" (known: {', '.join(sorted(known))})"
        raise ConfigError(f"{group}: no such choice '{choice}'{guess}{listed}")
    path = Path(choice).expanduser()
    if not path.is_file():
        raise ConfigError(f"{group}: no such file {choice}")
    try:
        content = OmegaConf.load(path)
    except Exception as error:
        raise _explained(error, choice) from error
    if not isinstance(content, DictConfig):
        raise ConfigError(f"{choice}: expected a mapping of the options of {group}")
    return _stored(group, path.resolve(), content)


def _stored(group: str, source: Path | str, content: Any) -> str:
    """The name under which Hydra finds `content` from now on."""
    name = f"from_{digest(source)}"
    ConfigStore.instance().store(group=group, name=name, node=content)
    return name


def _value_override(override: str) -> str:
    """`key=value` as Hydra's `++key=value`, so that it also sets what no YAML lists."""
    if override.startswith("~"):
        return override
    key, equals, value = _bound(*override.lstrip("+").partition("="))
    if not equals or not all(part.isidentifier() for part in key.split(".")) or key.split(".")[0] == "hydra":
        raise ConfigError(f"{override}: expected key=value, as in train.batch_size=64")
    quoted = "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value) + "'"
    # what Hydra's grammar cannot read, as ~/images or it's, is plain text, unless it began as something else
    texts = [value] if value[:1] in ("[", "{", "'", '"') else [value, quoted]
    reason = ""
    for text in texts:
        try:
            parsed = OverridesParser.create().parse_override(f"++{key}={text}")
        except HydraException as error:
            reason = reason or str(error).splitlines()[0]
            continue
        if parsed.is_sweep_override():
            raise ConfigError(f"{override}: one value expected; a list is written '{key}=[{value}]'")
        return f"++{key}={text}"
    raise ConfigError(f"{override}: not readable: {reason}")


def _bound(key: str, equals: str, value: str) -> tuple[str, str, str]:
    """`search.constraints.latency_ms<=5` as `=<= 5`; a key with @, which Hydra takes for its own, as one of a mapping.

    In a mapping bounds and keys are read with and without quotes: `{latency_ms: <= 5}`, `{"latency_ms": "<= 5"}`.
    """
    if key[-1:] in ("<", ">"):
        key, value = key[:-1].rstrip(), f"{key[-1]}= {value}"
    above, _, last = key.rpartition(".")
    if "@" in last and above:
        key, value = above, f"{{{last}: {value}}}"
    if value.startswith("{"):
        value = re.sub(r"""([{,]\s*)(["'])([\w@.-]+)\2(\s*:)""", r"\1\3\4", value)
        value = re.sub(r"(:\s*)([<>]=\s*[\w.+-]+)", r"\1'\2'", value)
    return key, equals, value


def _composed(
    conf: str, name: str, folders: tuple[Path, ...], choices: dict[str, str], values: list[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration, and the choice made for each group."""
    token = _also_searched.set(folders[1:])
    Plugins.instance().register(_AlsoSearched)
    prefixes = dict.fromkeys(choices, "")
    try:
        with warnings.catch_warnings(), initialize_config_dir(config_dir=str(folders[0]), version_base="1.3"):
            warnings.filterwarnings("ignore", message=r".*Defaults list is missing `_self_`")
            while True:
                groups = [f"{prefixes[group]}{group}={choice}" for group, choice in choices.items()]
                try:
                    composed = hydra_compose(name, overrides=[*groups, *values], return_hydra_config=True)
                    break
                except ConfigCompositionException as error:
                    group = _group_not_in_defaults(error)
                    if prefixes.get(group) != "":
                        raise
                    prefixes[group] = "+"
            made = dict(composed.hydra.runtime.choices)
            OmegaConf.set_struct(composed, False)
            composed.pop("hydra")
            plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
            return cast(dict[str, Any], plain), made
    except Exception as error:  # what Hydra stumbles over here is what the files and the overrides say
        raise _explained(error, f"conf {conf}") from error
    finally:
        _also_searched.reset(token)


def _group_not_in_defaults(error: Exception) -> str:
    """The group that a choice was given for and that the conf's defaults list does not name, else ''."""
    match = re.match(r"Could not override '([^']+)'", str(error))
    return match[1] if match else ""


def _explained(error: Exception, where: str) -> ConfigError:
    """One line for what Hydra, OmegaConf or the YAML reader says in several."""
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return ConfigError(f"{mark.name}:{mark.line + 1}: {getattr(error, 'problem', None) or error}")
    text = str(error)
    lost = re.match(r"In '(?P<file>[^']+)': Could not (?:find|load) '(?P<what>[^']+)'", text)
    if lost:
        known = re.findall(r"^\t([^=\n]+)$", text, re.MULTILINE)
        guess = did_you_mean(Path(lost["what"]).name, known)
        return ConfigError(
            f"{where}: '{lost['file']}' asks for '{lost['what']}', which does not exist{guess}"
        )
    if isinstance(error, RecursionError):
        return ConfigError(f"{where}: refers to itself")
    key = getattr(error, "full_key", None)
    if type(error).__name__ == "MissingMandatoryValue" and key:
        return ConfigError(f"{key}: must be given; add {key}=...")
    first = text.splitlines()[0] if text else type(error).__name__
    return ConfigError(f"{key or where}: {first}")
