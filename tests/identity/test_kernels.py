"""Compiled loops do without SciPy, which numba asks for wherever matrices are multiplied."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gandb.identity

KERNELS = sorted(Path(gandb.identity.__path__[0]).glob("*_kernels.py"))


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_no_product_of_numpy(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.MatMult), "numba compiles @ with SciPy's BLAS"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
            assert name not in {"np.dot", "np.vdot", "np.linalg", "np.inner"}, name


def test_there_are_kernels() -> None:
    assert len(KERNELS) > 5
