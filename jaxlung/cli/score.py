"""`jaxlung score`: its work."""

import argparse


def score_folders(arguments: argparse.Namespace) -> None:
    from jaxlung.evaluation.mask_scores import score
    from jaxlung.metrics.image import Tolerance

    score(
        arguments.pred,
        arguments.truth,
        arguments.out,
        images=arguments.images,
        metadata=arguments.metadata,
        sides=arguments.sides,
        spacing_mm=arguments.spacing_mm,
        tolerance=Tolerance(arguments.tolerance_px, arguments.tolerance_mm),
        overwrite=arguments.overwrite,
    )
