"""The import contract that may speak of modules nobody has written yet.

Owns one contract type for import-linter, `wall`: its `forbidden`, except that a module of ours that does not exist is left out instead of
being an error, so that a wall stands in pyproject.toml from the first day and holds from the moment its package appears.
What may never happen here: letting a misspelt name through. tests/contracts/test_walls.py keeps every name in the contracts to the plan
of the house, and breaks every contract once.
"""

from __future__ import annotations

from grimp import ImportGraph
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.domain.contract import ContractCheck
from importlinter.domain.imports import ModuleExpression


class WallContract(ForbiddenContract):
    """`forbidden`, for a house that is still being built."""

    type_name = "wall"

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Keep only the modules that are there, then check as `forbidden` does."""
        # A field is declared as its parser and holds what was parsed; type checkers see only the declaration.
        self.source_modules = self._present(graph, self.source_modules)  # type: ignore[assignment]
        self.forbidden_modules = self._present(graph, self.forbidden_modules)  # type: ignore[assignment]
        return super().check(graph, verbose)

    def _present(self, graph: ImportGraph, expressions: object) -> set[ModuleExpression]:
        """The expressions with a wildcard, the modules of ours in the graph, and everything that is not ours."""
        assert isinstance(expressions, set)
        roots = set(self.session_options["root_packages"])
        return {
            each
            for each in expressions
            if "*" in each.expression or each.expression in graph.modules or each.expression.split(".")[0] not in roots
        }
