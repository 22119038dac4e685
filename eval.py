"""`jaxlung eval` in a clone: python eval.py --workdir runs/unet"""

import sys

from jaxlung.cli import main

if __name__ == "__main__":
    main(["eval", *sys.argv[1:]])
