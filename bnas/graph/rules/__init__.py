"""What each torch function does with the labels of its arguments: one function per rule, one table.

To add a rule, write `def name(trace, call)` and decorate it with `@rule("function", …)`. For a whole module
write `def name(trace, path, module, call)`: `@module_rule(ModuleClass)` lets it stand for the `forward`,
`@after_rule(ModuleClass)` has it called after the traced `forward`.
"""

from bnas.graph.rules import (
    elementwise,
    indexing,
    layers,
    modules,
    products,
    pyramids,
    rearrange,
    reduce,
    shapes,
)
from bnas.graph.rules.table import (
    AFTER_RULES,
    FUNCTION_RULES,
    MODULE_RULES,
    after_rule,
    function_name,
    module_rule,
    rule,
)

__all__ = [
    "AFTER_RULES",
    "FUNCTION_RULES",
    "MODULE_RULES",
    "after_rule",
    "function_name",
    "module_rule",
    "rule",
]

_ = (
    elementwise,
    indexing,
    layers,
    modules,
    products,
    pyramids,
    rearrange,
    reduce,
    shapes,
)  # imported for the rules they enter
