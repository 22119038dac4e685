"""Evaluates a run: python eval.py --workdir runs/unet [--data FOLDER] [--split validation]"""

from absl import app, flags

from jaxlung.errors import one_line_errors
from jaxlung.flags import parse_flags

_WORKDIR = flags.DEFINE_string("workdir", None, "A workdir of train.py.", required=True)
_DATA = flags.DEFINE_string(
    "data", None, "Another folder with images/ and masks/; default: the run's own data."
)
_SPLIT = flags.DEFINE_string(
    "split", None, "train, validation or test of the run's own data, or all of --data. "
    "Default: test, or all with --data."
)  # fmt: skip
_OUT = flags.DEFINE_string("out", None, "Default: WORKDIR/eval/ and the data's name and split.")


@one_line_errors
def main(_: list[str]) -> None:
    from jaxlung.evaluation import evaluate  # seconds of imports: after the flags are checked

    evaluate(_WORKDIR.value, data=_DATA.value, split=_SPLIT.value, out=_OUT.value)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
