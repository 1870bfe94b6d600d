"""What inner modules put out in one pass of a network, and how far that is from the teacher's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bnas.errors import ConfigError
from bnas.graph.trace import eval_mode
from bnas.space import SubnetConfig, resized, resolution_of
from bnas.train.distill import FEATURE_LOSSES

if TYPE_CHECKING:
    from bnas.supernet import Supernet
    from bnas.train.config import FeatureMatch

# By the module's name, then by the place of the tensor in its output: "" for the output itself, "[0]" and
# "['p6']" inside of it, "[0]['p6']" deeper; "#2" in front where it is of a second call in the same pass.
Captured = Mapping[str, Mapping[str, Tensor]]


class Features:
    """Keeps the outputs of the modules that `matches` name, of the model's last forward pass.

    Of an output, all floating-point tensors in nested tuples, lists and mappings are kept, with their
    gradient's history. What the model changes in place afterwards (`relu_`, `+=`) is kept as changed. Only passes of
    `model` itself count: neither copies of it, nor modules that run again in a backward pass. The
    hooks are taken off by `close`, or at the end of a `with` block.

    Args:
        who: what messages call the model.

    Raises:
        ConfigError: a pattern matches no module.
    """

    def __init__(
        self, model: nn.Module, matches: Sequence[FeatureMatch], *, who: str = "the network"
    ) -> None:
        self.model = model
        self._captured: dict[str, dict[str, Tensor]] = {}
        self._running = False
        named = {name: module for name, module in model.named_modules() if name}
        wanted: dict[str, None] = {}
        for index, match in enumerate(matches):
            found = [name for name in named if fnmatchcase(name, match.modules)]
            if not found:
                top = ", ".join(dict.fromkeys(name.partition(".")[0] for name in named))
                raise ConfigError(
                    f"features[{index}].modules: no module of {who} is called {match.modules!r}; it has {top} "
                    "and what is inside of them, as layer1.0"
                )
            wanted.update(dict.fromkeys(found))
        self._hooks = []
        if wanted:
            self._hooks = [
                model.register_forward_pre_hook(self._begin()),
                model.register_forward_hook(self._end(), always_call=True),
                *(named[name].register_forward_hook(self._keep(name)) for name in wanted),
            ]

    def take(self) -> Captured:
        """The outputs of the last pass, by module, in the order in which they were made; kept no longer."""
        captured, self._captured = self._captured, {}
        return captured

    def close(self) -> None:
        """Take the hooks off."""
        for hook in self._hooks:
            hook.remove()
        self._captured = {}

    def __enter__(self) -> Features:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Hooks are functions, which copies of a model share with it; so they ask whose pass it is.

    def _begin(self) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            if module is self.model:
                self._captured, self._running = {}, True

        return hook

    def _end(self) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if module is self.model:
                self._running = False

        return hook

    def _keep(self, name: str) -> Callable[..., None]:
        calls = 0

        def hook(module: nn.Module, args: Any, output: Any) -> None:
            nonlocal calls
            if not self._running:
                return
            kept = self._captured.setdefault(name, {})
            calls = calls + 1 if kept else 1
            call = "" if calls == 1 else f"#{calls}"
            kept.update((call + place, tensor) for place, tensor in tensors_of(output))

        return hook


def tensors_of(output: Any, place: str = "") -> Iterator[tuple[str, Tensor]]:
    """The floating-point tensors in nested tuples, lists and mappings, each with its place, in order."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield place, output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            yield from tensors_of(value, f"{place}[{key!r}]")
    elif isinstance(output, (tuple, list)):
        for index, value in enumerate(output):
            yield from tensors_of(value, f"{place}[{index}]")


def detached(output: Any) -> Any:
    """The same nested tuples, lists and mappings, with tensors that no gradient passes."""
    if isinstance(output, Tensor):
        return output.detach()
    if isinstance(output, Mapping):
        return {key: detached(value) for key, value in output.items()}
    if isinstance(output, (tuple, list)):
        items = [detached(value) for value in output]
        return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)
    return output


def feature_loss(own: Captured, teacher: Captured, matches: Sequence[FeatureMatch]) -> Tensor:
    """Sum over the matches of weight × mean of the loss over their tensors, of the network and of the teacher.

    Tensors are paired by module and place. One that the network has not (a level of a pyramid that its
    subnet has dropped) does not count; a match all of whose modules did not run is 0.

    Raises:
        ConfigError: the teacher has no tensor for a match, none of the network's is at the place of one of
            the teacher's, or the loss cannot compare them.
    """
    total = torch.zeros(())
    for index, match in enumerate(matches):
        ours, theirs = _of(own, match), _of(teacher, match)
        if not theirs:
            raise ConfigError(
                f"features[{index}].modules: {match.modules!r} matches modules of the teacher that do not run "
                "or put out no tensors"
            )
        shared = [name for name in ours if name in theirs]
        if ours and not shared:
            raise ConfigError(
                f"features[{index}].modules: the network puts out {', '.join(ours)} where the teacher puts out "
                f"{', '.join(theirs)}"
            )
        losses = []
        for name in shared:
            try:
                losses.append(FEATURE_LOSSES[match.loss](ours[name], theirs[name].detach()))
            except ConfigError as error:
                raise ConfigError(f"features[{index}].{error} (output {name})") from None
        if losses:
            total = total.to(losses[0].device) + match.weight * torch.stack(losses).mean()
    return total


def _of(captured: Captured, match: FeatureMatch) -> dict[str, Tensor]:
    """The tensors of a match by module and place."""
    return {
        name + place: tensor
        for name, tensors in captured.items()
        if fnmatchcase(name, match.modules)
        for place, tensor in tensors.items()
    }


def check_features(
    supernet: Supernet, matches: Sequence[FeatureMatch], inputs: Any, *, in_place: bool = False
) -> None:
    """Check, before a training, that every match can be computed for the smallest subnets.

    Where the smallest subnet's output has the shape of the largest's, no choice of the space changes it; so
    a loss that needs equal shapes is refused for what is elastic, also where it would only begin to fail,
    or compare channels that reordering has permuted, in a later stage.

    Args:
        inputs: the model's first argument, some images. Three passes run on them in eval mode, without
            gradients; the supernet is left as it was.
        in_place: the teacher gets the images in the size that the subnets get them in.

    Raises:
        ConfigError: a pattern matches no module, or a match cannot be computed.
    """
    if not matches:
        return
    space, smallest = supernet.space, supernet.space.smallest
    whole = ("depth", "levels")  # the smallest with all its modules: what it skips cannot be compared
    complete = SubnetConfig({c.name: c.values[-1] if c.dim in whole else c.values[0] for c in space.choices})
    size = resolution_of(smallest)
    passes = ((space.largest, size if in_place else None), (complete, size), (smallest, size))
    captured = []
    with eval_mode(supernet.model), torch.no_grad(), Features(supernet.model, matches) as features:
        for subnet, side in passes:
            with supernet.activated(subnet):
                supernet(resized(inputs, side))
            captured.append(features.take())
    for own in captured[1:]:
        feature_loss(own, captured[0], matches)
