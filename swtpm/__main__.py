"""The command line of the node in a box."""

import sys

from swtpm import image

if __name__ == "__main__":
    image.prepare()
    sys.exit(0)
