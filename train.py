"""`jaxlung train` in a clone: python train.py --config configs/unet.py"""

import sys

from jaxlung.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
