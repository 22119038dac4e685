"""Evaluates runs: python eval.py --workdir runs/unet [--data FOLDER,FOLDER] [--out FOLDER]"""

from absl import app, flags

from jaxlung.cli.flags import define_processes, parse_flags
from jaxlung.errors import one_line_errors

_WORKDIR = flags.DEFINE_list(
    "workdir", None, "Workdirs of train.py; several are compared on the same images.", required=True
)
_DATA = flags.DEFINE_list(
    "data",
    None,
    "Folders with images/ and masks/, or prepared public sets by name; default: the "
    "run's own data.",
)
_SPLIT = flags.DEFINE_string(
    "split",
    None,
    "train, validation or test of the run's own data, or all of --data. "
    "Default: test of the run's own data, all of other folders.",
)
_OUT = flags.DEFINE_string("out", None, "Default: WORKDIR/eval/ and the data's name and split.")
_TOLERANCE_PX = flags.DEFINE_float("tolerance_px", 2.0, "Of NSD, in pixels of either grid.")
_TOLERANCE_MM = flags.DEFINE_float("tolerance_mm", 2.0, "Of NSD, where the spacing is known.")
_TTA = flags.DEFINE_bool("tta", True, "Average with the mirror image's; --notta: predict once.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace an earlier report.")
_PROCESSES = define_processes()


@one_line_errors
def main(_: list[str]) -> None:
    processes = _PROCESSES()

    # These imports take seconds: only after the flags are checked.
    from jaxlung.system.start import start_process

    start_process()

    from jaxlung.devices.distributed import join_processes
    from jaxlung.evaluation.evaluate import evaluate
    from jaxlung.metrics.image import Tolerance

    tolerance = Tolerance(_TOLERANCE_PX.value, _TOLERANCE_MM.value)
    with join_processes(processes):
        evaluate(
            _WORKDIR.value,
            data=_DATA.value,
            split=_SPLIT.value,
            out=_OUT.value,
            tolerance=tolerance,
            overwrite=_OVERWRITE.value,
            tta=_TTA.value,
        )


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
