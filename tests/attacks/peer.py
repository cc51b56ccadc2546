"""`python peer.py HOST:PORT PATH...`: what any peer of TensorFlow's port can do: a worker reads the files for it.

Prints a JSON object: path → the bytes as Latin-1, or null if the worker cannot read it. A path may contain `*`.
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf

v1 = tf.compat.v1
CHUNK = 65536


def main(address: str, paths: list[str]) -> None:
    found: dict[str, str | None] = {}
    with v1.Graph().as_default(), v1.Session(f"grpc://{address}") as session:
        name = v1.placeholder(tf.string, [])
        content, matching = tf.io.read_file(name), tf.io.matching_files(name)
        write = tf.io.write_file(name, "written by a stranger")
        for path in paths:
            if path.startswith(">"):
                try:
                    session.run(write, {name: path[1:]})
                    found[path] = "written"
                except tf.errors.OpError:
                    found[path] = None
                continue
            every = [path]
            if "*" in path:
                every = [item.decode() for item in session.run(matching, {name: path})]
            for one in every:
                try:
                    found[one] = session.run(content, {name: one}).decode("latin-1")
                except tf.errors.OpError:
                    found[one] = None
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
    os._exit(0)
