"""The command line: `python -m kd_lib COMMAND`. What each command does stands in `kd_lib.commands`."""

import argparse
import math
import sys
from pathlib import Path

from kd_lib import commands
from kd_lib.scale import Scale


def main(arguments=None):
    """Run one command; return the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return options.command(options, _scale(options)) or 0
    except (ValueError, OSError) as error:
        print(f"kd_lib: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"kd_lib: {error}. Install what the course needs: pip install -r requirements.txt", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nkd_lib: stopped. The same command goes on after the last finished epoch.", file=sys.stderr)
        return 130


def _parser():
    parser = argparse.ArgumentParser(prog="python -m kd_lib", description="Knowledge distillation on traffic signs.")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name, command, help_text):
        found = subparsers.add_parser(name, help=help_text, description=help_text)
        found.set_defaults(command=command)
        found.add_argument("--scale", help="smoke, laptop (default) or full; else KD_SCALE")
        return found

    def add_data(found):
        found.add_argument("--data", help="signs (default), gtsrb, ... or a folder; else KD_DATA")
        return found

    run = add("run", commands.run, "run the notebooks in order, as pages under build/, and print the results table")
    run.add_argument("--data", help="signs (default) or gtsrb; else KD_DATA")
    run.add_argument("--only", nargs="+", default=[], metavar="NN", help="numbers of notebooks, such as 03 04")
    run.add_argument("--solutions", action="store_true", help="run the solutions to the exercises instead")
    run.add_argument("--write", action="store_true", help="store the outputs in the notebooks, publish the result rows")
    data = add("data", commands.data, "prepare a data set (download, check, decode) and print its counts")
    data.add_argument("data", help="signs, gtsrb, btsc, cifar10, cifar100 or a folder")
    data.add_argument("--image-size", type=int, default=32, help="pixels a side (default 32)")
    data.add_argument("--crop", action="store_true", help="crop to the annotated sign")
    train = add_data(add("train", commands.train, "train the teacher or a plain student, or load it"))
    train.add_argument("model", nargs="?", choices=["teacher", "student"])
    train.add_argument("--replay", metavar="FOLDER", help="repeat the training that FOLDER/config.json describes")
    distill = add_data(add("distill", commands.distill, "train a student from the teacher, or load it"))
    for student in (train, distill):
        student.add_argument("--width", type=_width, default=0.25, help="of the student (default 0.25)")
        student.add_argument("--seed", type=_seed, default=0)
    evaluate = add_data(
        add("evaluate", commands.evaluate, "measure trained models on the test images and write their rows")
    )
    evaluate.add_argument("model", choices=["teacher", "student", "committee", "distilled"])
    evaluate.add_argument("--width", type=_width, default=0.25, help="of the student (default 0.25)")
    evaluate.add_argument("--seed", type=_seed, help="one seed alone (default: all of the scale)")
    evaluate.add_argument("--on", metavar="DATA", help="take the test images of another data set, such as gtsrb")
    prune = add_data(add("prune", commands.prune, "take channels from a sparse student and let the teacher repair it"))
    prune.add_argument("--fraction", type=_share, default=0.5, help="share of the channels that goes (default 0.5)")
    prune.add_argument("--width", type=_width, default=0.25, help="of the student before (default 0.25)")
    prune.add_argument("--seed", type=_seed, default=0)
    export = add_data(add("export", commands.export, "make the int8 file that predict and serve run, with its card"))
    export.add_argument("--width", type=_width, default=0.25, help="of the student (default 0.25)")
    export.add_argument("--seed", type=_seed, default=0)
    export.add_argument("--fraction", type=_share, default=0.0, help="share of the channels to prune first (default 0)")
    export.add_argument("--output", type=Path, help="the .tflite file (default: student.tflite in KD_HOME)")
    predict = subparsers.add_parser("predict", help="name the signs in pictures", description="Name signs in pictures.")
    predict.set_defaults(command=commands.predict)
    predict.add_argument("paths", nargs="+", metavar="PATH", help="picture files, folders, patterns such as '*.png'")
    predict.add_argument("--top", type=int, default=1, help="how many classes to name (default 1)")
    predict.add_argument("--json", action="store_true", help="print one JSON list")
    predict.add_argument("--reject", action="store_true", help="say which pictures are perhaps no sign")
    predict.add_argument("--model", metavar="FILE", help=".tflite file (default: the student of this package)")
    serve = subparsers.add_parser("serve", help="answer over HTTP, with a page to drop pictures on")
    serve.set_defaults(command=commands.serve)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all (default 127.0.0.1)")
    serve.add_argument("--port", type=int, default=8000, help="0 for any free one (default 8000)")
    serve.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    serve.add_argument("--model", metavar="FILE", help=".tflite file (default: the student of this package)")
    serve.add_argument("--max-files", type=int, help="in a request (default 64)")
    serve.add_argument("--max-request-bytes", type=int, help="default 64 million")
    serve.add_argument("--max-file-bytes", type=int, help="default 16 million")
    serve.add_argument("--max-pixels", type=int, help="of a picture (default 40 million)")
    serve.add_argument("--max-request-pixels", type=int, help="default 80 million")
    serve.add_argument("--max-seconds", type=int, help="until an upload has arrived (default 60)")
    for trained in (train, distill, evaluate, prune, export):
        trained.add_argument("--crop", action="store_true", help="take the images cropped to the annotated sign")
        trained.add_argument("--refit", action="store_true", help="learn from validation images too, all being chosen")
    for taught in (distill, evaluate, prune, export):
        taught.add_argument("--committee", action="store_true", help="the plain students together are the teacher")
    add_data(add("pretrain", commands.pretrain, "pretrain MobileNetV2's backbone on drawn signs, or load it"))
    shown = add_data(add("results", commands.results, "print the results table"))
    shown.add_argument("--publish", action="store_true", help="merge this run's rows into figures/ and the README")
    return parser


def _share(text):
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must lie in [0, 1). Received: {text}")
    return value


def _width(text):
    value = float(text)
    if not 0 < value < math.inf or round(64 * value) < 1:
        raise argparse.ArgumentTypeError(f"must be positive and leave a channel (1/64 or more). Received: {text}")
    return value


def _seed(text):
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0. Received: {text}")
    return value


def _scale(options):
    return Scale.from_env(name=getattr(options, "scale", None), data=getattr(options, "data", None))


if __name__ == "__main__":
    sys.exit(main())
