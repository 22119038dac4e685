"""TFDS's own test case of a builder, as a function.

Its class imports TensorFlow for seconds. At the head of a file of tests it would do so in each
worker, as each collects all tests; here only the worker that runs them pays.
"""

import unittest
from pathlib import Path
from typing import Any


def check_builder(
    builder: type, splits: dict[str, int], folder: Path, **attributes: Any
) -> unittest.TestResult:
    """Prepares the set of a folder as TFDS's test case does, and fails as it does.

    `attributes` are those of `tfds.testing.DatasetBuilderTestCase`.
    """
    import tensorflow_datasets as tfds

    class Case(tfds.testing.DatasetBuilderTestCase):
        DATASET_CLASS = builder
        SPLITS = splits
        EXAMPLE_DIR = str(folder)

    for name, value in attributes.items():
        setattr(Case, name, value)
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(result)
    faults = [text for _, text in result.errors + result.failures]
    assert not faults, "\n".join(faults)
    assert result.testsRun > len(result.skipped)
    return result
