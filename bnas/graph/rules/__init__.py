"""What each torch function does with the labels of its arguments: one function per rule, one table.

To add a rule, write `def name(trace, call)` and decorate it with `@rule("function", …)`, or
`def name(trace, path, module, call)` with `@module_rule(ModuleClass)`.
"""

from bnas.graph.rules import elementwise, layers, shapes
from bnas.graph.rules.table import FUNCTION_RULES, MODULE_RULES, function_name, module_rule, rule

__all__ = ["FUNCTION_RULES", "MODULE_RULES", "function_name", "module_rule", "rule"]

_ = (elementwise, layers, shapes)  # imported for the rules they enter
