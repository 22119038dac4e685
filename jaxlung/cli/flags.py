"""Parses the flags of train.py and eval.py; prints a mistake in one line, without a traceback."""

import re
import sys
from collections.abc import Callable, Sequence

from absl import flags, logging

from jaxlung.errors import fail
from jaxlung.system.processes import Processes, find_processes

flags.disclaim_key_flags()  # the commands call `define_processes`: its flags are theirs


def define_processes() -> Callable[[], Processes | None]:
    """Defines the flags for several processes; returns a function that reads them when parsed."""
    coordinator = flags.DEFINE_string(
        "coordinator",
        None,
        "HOST:PORT of process 0, to work in several processes. Slurm, "
        "Kubernetes and Cloud TPU need none of these three: docs/scaling.md.",
    )
    processes = flags.DEFINE_integer("processes", None, "How many; 1: alone, on a cluster too.")
    process = flags.DEFINE_integer("process", None, "Which of them this is, from 0.")
    return lambda: find_processes(coordinator.value, processes.value, process.value)


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses the flags, for `absl.app.run`; exits in one line on anything but flags."""
    if {"--help", "-h", "-help"} & set(argv[1:]):  # absl exits with an error's status
        flags.FLAGS.unparse_flags()
        print(f"{sys.modules['__main__'].__doc__}\n{flags.FLAGS.main_module_help()}")
        raise SystemExit(0)
    try:
        rest = flags.FLAGS(argv)
        if "config" in flags.FLAGS:
            flags.FLAGS.config.lock()  # raises if the file failed to load
    except flags.IllegalFlagValueError as error:
        missing = re.match(r"flag --(\w+)=None: Flag .* must have a value", str(error))
        example = {"config": " configs/unet.py", "workdir": " runs/unet"}
        if missing:
            name = missing[1]
            fail(f"--{name} is needed, as in --{name}{example.get(name, '=...')}; see --help")
        fail(error)
    except flags.Error as error:
        fail(error)
    except (AttributeError, KeyError) as error:  # how ml_collections reports a misspelt field
        fail(_unknown_field(argv, str(error)))
    except Exception as error:  # a config file may raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
        fail(f"--config: {reason}")
    if len(rest) > 1:
        fail(f"{rest[1]!r} is no flag; fields are set as --config.section.field=value")
    logging.set_verbosity(logging.ERROR)  # Orbax logs every rename of every file
    return rest


def _unknown_field(argv: Sequence[str], message: str) -> str:
    """Words an error with the flag's name, which the message of ml_collections leaves out."""
    words = re.findall(r"[A-Za-z_]\w*", message)
    field = words[0] if words else ""
    flag = next(
        (a for a in argv if re.match(rf"--?config\..*\b{field}\b", a)), f"--config ({field})"
    )
    guess = re.search(r'Did you mean "(\w+)"', message)
    hint = f"did you mean {guess[1]}?" if guess else "jaxlung/config/settings.py lists the fields"
    return f"{flag.split('=')[0]}: the config has no field {field!r}; {hint}"
