"""Parses the given Bicep files with pycep and prints the results as JSON, by file name."""

import json
import pathlib
import sys

from pycep import BicepParser

parser = BicepParser()
files = [pathlib.Path(name) for name in sys.argv[1:]]
print(json.dumps({file.name: parser.parse(text=file.read_text()) for file in files}))
