"""Trains a U-Net: python train.py --config configs/unet.py [--config.SECTION.FIELD=VALUE ...]"""

from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from jaxlung.cli.flags import define_processes, parse_flags
from jaxlung.config import parse_config
from jaxlung.errors import one_line_errors

_CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
flags.mark_flag_as_required("config")
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Checkpoints, logs and pictures; an interrupted run goes on from here. "
    "Default: runs/ and the config file's name.",
)
_PROCESSES = define_processes()
_PROFILE = flags.DEFINE_bool(
    "profile", False, "Write a trace of ten steps to the workdir's profile/, for ui.perfetto.dev."
)


@one_line_errors
def main(_: list[str]) -> None:
    config_file = config_flags.get_config_filename(flags.FLAGS["config"])
    workdir = Path(_WORKDIR.value or Path("runs") / Path(config_file).stem)
    config, processes = parse_config(_CONFIG.value), _PROCESSES()

    # These imports take seconds: only after the flags are checked.
    from jaxlung.system.start import start_process

    start_process(
        config.mesh.data or config.train.batch_size // config.train.accumulate,
        processes.number if processes else 1,
        config.mesh.devices_per_image,
    )

    from jaxlung.devices.distributed import join_processes
    from jaxlung.train.ensemble import train_ensemble
    from jaxlung.train.loop import train_and_evaluate
    from jaxlung.workdir.integrity import describe_latest

    train = train_ensemble if config.is_ensemble else train_and_evaluate
    with join_processes(processes, last_words=lambda: describe_latest(workdir)):
        train(config, workdir, profile=_PROFILE.value)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
