"""Read a compose file from stdin by the rules of the compose specification, and print it as JSON.

It runs in the environment of `make deploy-tools`, so it imports nothing of this project.
"""

import json
import sys

import compose_spec
import yaml


def main() -> None:
    # YAML's own reader merges the shared parts. The other checks every key and value.
    text = json.dumps(yaml.safe_load(sys.stdin.read()))
    compose_spec.PyCompose.from_json(text)
    print(text)


if __name__ == "__main__":
    main()
