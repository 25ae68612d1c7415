"""Has the producer of one of the modules beside this one send so many tasks."""

import importlib
import sys

if __name__ == "__main__":
    importlib.import_module(sys.argv[1]).send(int(sys.argv[2]))
